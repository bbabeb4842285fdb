"""Learning from live feedback, apart from the rest of RL.

features.py what is read of an answer
tamer.py    what a person's presses and choices teach
reward.py   read from a policy's hidden states, as a reward of whole answers
shaping.py  as a part of the reward in RL: what `rl.feedback` asks for in cai/train/rl/given.py

What makes it work on SmolLM2-135M, by scripted raters who like short, polite or on-topic answers, wait 0.2 to 4 s, miss
30% and press the wrong key in 10%. 25 of our everyday prompts, 8 answers of at most 40 tokens to each; four raters of
each taste teach on 13 prompts, and the best of 8 on the other 12 is measured by the rater's own measure, less the mean
of the 8, in sd of that measure over all answers (the best that is possible: 1.29, 1.18, 0.94; 95% intervals over raters
and prompts). Pairs and answers are drawn at random here, feedbacks are 100:

    features                                   form                  mean of the tastes
    last states (as it was until 5db2443)      words                 0.42 [0.20, 0.63]   without a delay 0.40
    states halfway up                          words                 0.43 [0.24, 0.61]   without a delay 0.32
    last states                                pairs                 0.49 [0.27, 0.70]
    states halfway up                          pairs                 0.56 [0.38, 0.74]
    states halfway up and counts of the text   words                 0.77 [0.48, 1.06]   without a delay 0.78
    states halfway up and counts of the text   pairs                 0.87 after 100, 0.94 [0.64, 1.24] after 200
    states halfway up and counts of the text   thumbs, whole answer  0.89 after 100, 0.87 [0.56, 1.18] after 200
    counts of the text alone                   pairs                 0.90 [0.62, 1.18]

"Short" and "on topic" are near to counts, "polite" only through "you"; without the counts all three are still learned.

So: features did it, and how many answers there are to choose from (best of 2: 0.29, of 4: 0.61, of 8: 0.87). A choice
is worth as much as a thumb; but a thumb is about a person's standard, which these raters never lose. Credit for the
delay helps where the states alone are read, and no more once the whole text is counted. None of these mattered: which
pair is shown (random, Thompson sampling, the most uncertain difference: 0.85 each; the best and a random one: 0.81),
how the noise is chosen (evidence, leaving answers out: 0.94), least squares or logistic (0.94, 0.93: on 16 prompts).
What neither a count nor a few directions of the states know is not learned from 100 feedbacks: a random direction of
the states gains 0.18 [-0.10, 0.46] (on 16 prompts). By the page's own session: `python -m cai.bench live`
(pairs: 0.77 [0.47, 1.07]; at 739c6f6, one thread of a busy two-core machine).

On a toy policy, whose rater likes words that no count knows, 60 feedbacks gain 0.49 [0.10, 0.88] by words, 0.26 [-0.06,
0.58] without a delay, and 0.59 [0.33, 0.86] by pairs (tests/train/test_live_learns.py, six seeds).
"""

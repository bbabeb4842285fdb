"""Live feedback, apart from the rest of RL.

tamer.py    what a person's presses teach
reward.py   read from a policy's hidden states, as a reward of whole answers
shaping.py  as a part of the reward in RL: what `rl.feedback` asks for in cai/train/rl/given.py
"""

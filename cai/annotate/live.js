// A talk with a policy. In the form "pairs" two answers stand beside each other, and a key says which is better; in the
// form "words" one answer appears token by token, and each press of a key is one feedback with its moment.
let rater = "", suggestion = null, messages = [], answer = null, pair = null, busy = false, sending = Promise.resolve();
const TOO_SOON = 250; // ms: a key that quick after two new answers was meant for the last ones

function turn(message) {
  const block = element("div", "", "turn " + message.role);
  block.append(element("span", message.role === "assistant" ? "policy" : message.role, "role"), element("div", message.content, "text"));
  return block;
}

function down() { $("chat").scrollTop = $("chat").scrollHeight; }

function facts({feedbacks, good, bad, choices, answers, silent, correlation, candidates, faults}) {
  const shown = {
    "feedbacks": feedbacks, ...(choices ? {"choices": choices} : {}), ...(good + bad ? {"good, bad": `${good}, ${bad}`} : {}), "answers": `${answers}, ${silent} without feedback`,
    "correlation": correlation === null ? "not known yet" : correlation.toFixed(2),
    "next answer": candidates === 1 ? "the first drawn" : `the best of ${candidates}`,
  };
  $("facts").replaceChildren(...Object.entries(shown).flatMap(([name, fact]) => [element("dt", name), element("dd", fact)]));
  $("faults").replaceChildren(...Object.entries(faults).map(([why, n]) => element("li", `In the file: ${why} (${n})`)));
  $("pace").textContent = `${feedbacks} ${feedbacks === 1 ? "feedback" : "feedbacks"}`;
  document.title = `${feedbacks} feedbacks – live`;
}

function present(state) {
  suggestion = state.suggestion;
  const {seen, total} = state.prompts;
  $("where").textContent = `${seen} of ${total} prompts`;
  $("bar").value = total ? seen / total : 0;
  $("rater").textContent = state.rater;
  facts(state.learned);
  const next = suggestion ? suggestion[suggestion.length - 1].content : "";
  $("text").placeholder = next ? `Enter for the next prompt: ${next}` : "Say something";
}

function waiting(yes) {
  busy = yes;
  $("send").disabled = $("fresh").disabled = yes;
}

function say(text, fresh) {
  if (busy || (text === null && !suggestion)) return;
  waiting(true);
  answer = null;
  away();
  const asked = text === null ? suggestion : [...(fresh ? [] : messages), {role: "user", content: text}];
  $("chat").replaceChildren(...asked.map(turn), turn({role: "assistant", content: ""}));
  $("told").textContent = "It is thinking …";
  $("tally").textContent = "";
  down();
  // Presses that are still on their way come first: the answer is to be chosen by them too.
  sending = sending.then(() => post("say", {rater, text, fresh})).then(held => {
    $("text").value = "";
    messages = held.messages;
    $("chat").replaceChildren(...messages.map(turn), turn({role: "assistant", content: ""}));
    const [first, second] = held.answers;
    if (second) beside(first, second, held.candidates); else listen(first, held.candidates);
  }).catch(() => {
    $("chat").replaceChildren(...messages.map(turn));
    $("told").textContent = "";
    waiting(false);
  });
}

// Seconds count from the first token on this page, by this page's clock: the network's delay is in neither.
function listen({id, tokens}, candidates) {
  const now = {id, begun: 0, shown: [], ended: null, tally: 0, spans: [], text: ""};
  const text = $("chat").lastElementChild.querySelector(".text");
  const source = new EventSource("/api/stream?answer=" + encodeURIComponent(id));
  answer = now;
  $("told").textContent = candidates === 1 ? "" : `The best of ${candidates} answers, as far as it knows.`;
  const seconds = () => Math.round(performance.now() - now.begun) / 1000;
  now.seconds = seconds;
  source.onmessage = event => {
    if (!now.shown.length) now.begun = performance.now();
    now.shown.push(seconds());
    const span = element("span", JSON.parse(event.data), "token");
    now.spans.push(span);
    now.text += span.textContent;
    text.append(span);
    down();
  };
  source.addEventListener("end", () => {
    source.close();
    finish();
    if (!tokens) text.textContent = "(it said nothing)";
  });
  // A stream that broke off would begin anew, with other times; what was shown of it stands.
  source.onerror = () => { source.close(); finish(); complain("The server cannot be reached. Start it again, open the address that it prints, and go on."); };
  function finish() {
    if (now.shown.length === tokens) now.ended = Math.max(seconds(), now.shown.at(-1) ?? 0);
    messages = [...messages, {role: "assistant", content: now.text}];
    sending = sending.then(() => post("state", {rater})).then(present).catch(() => {}).finally(() => waiting(false));
  }
}

// Two answers at once; the talk goes on with the one that is chosen, and with the second where none is.
function beside(first, second, candidates) {
  pair = {left: first, right: second, begun: performance.now()};
  $("chat").lastElementChild.remove();
  for (const side of ["left", "right"]) {
    $(side).querySelector(".text").textContent = pair[side].text;
    $(side).disabled = false;
  }
  down();
  $("told").textContent = candidates > 2 ? `Two of ${candidates} answers: which is better?` : "Which is better?";
  sending = sending.then(() => post("state", {rater})).then(present).catch(() => {}).finally(() => waiting(false));
}

function away() {
  pair = null;
  for (const side of ["left", "right"]) {
    $(side).disabled = true;
    $(side).classList.remove("chosen");
    $(side).querySelector(".text").textContent = "";
  }
}

function choose(side) {
  if (!pair || busy || performance.now() - pair.begun < TOO_SOON) return;
  const {left, right, begun} = pair, chosen = pair[side];
  const body = {rater, left: left.id, right: right.id, chosen: chosen.id, seconds: Math.round(performance.now() - begun) / 1000};
  waiting(true);
  $(side).classList.add("chosen");
  sending = sending.then(() => post("choose", body)).then(held => {
    away();
    messages = held.messages;
    $("chat").replaceChildren(...messages.map(turn));
    down();
    facts(held);
    $("told").textContent = "Saved. Enter for the next prompt, or say something.";
    $("text").focus();
  }).catch(() => $(side).classList.remove("chosen")).finally(() => waiting(false));
}

function press(value) {
  if (!answer || !answer.shown.length) return;
  const now = answer;
  now.tally += value;
  $("tally").textContent = (now.tally > 0 ? "+" : now.tally < 0 ? "−" : "") + Math.abs(now.tally);
  const button = $(value > 0 ? "up" : "down");
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 150);
  const body = {rater, answer: now.id, value, seconds: now.seconds(), shown: [...now.shown], ended: now.ended};
  sending = sending.then(() => post("press", body)).then(held => {
    facts(held);
    mark(now, value, held.credit);
  }).catch(() => { now.tally -= value; });
}

// Which words a press was about, as far as its moment tells.
function mark(now, value, credit) {
  const most = Math.max(...credit, 0);
  now.spans.forEach((span, i) => {
    const share = most ? (credit[i] ?? 0) / most : 0;
    span.classList.remove("good", "bad");
    if (share <= 0) return;
    span.classList.add(value > 0 ? "good" : "bad");
    span.style.setProperty("--share", `${Math.round(100 * share)}%`);
  });
}

async function begin(name) {
  try {
    const state = await post("state", {rater: name});
    rater = state.rater;
    messages = state.messages;
    show("work");
    $("chat").replaceChildren(...messages.map(turn));
    present(state);
    $("told").textContent = messages.length ? "Welcome back: going on where you stopped." : "Press Enter to ask it the first prompt, or say something else.";
    down();
    $("text").focus();
  } catch { /* shown */ }
}

$("say").addEventListener("submit", event => {
  event.preventDefault();
  const text = $("text").value.trim();
  say(text || null, false);
});
$("fresh").addEventListener("click", () => {
  if (busy) return;
  messages = [];
  answer = null;
  $("chat").replaceChildren();
  $("tally").textContent = "";
  say($("text").value.trim() || null, true);
});
for (const side of ["left", "right"]) $(side).addEventListener("click", () => choose(side));
for (const [id, value] of [["up", 1], ["down", -1]]) $(id).addEventListener("click", () => press(value));

const SIDES = {ArrowLeft: "left", ArrowRight: "right"}, ARROWS = {ArrowUp: 1, ArrowDown: -1}, SIGNS = {"+": 1, "=": 1, "-": -1, "_": -1};
document.addEventListener("keydown", event => {
  if ($("work").hidden || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const typing = event.target === $("text");  // there + and − are letters, and ↑ and ↓ do nothing
  if (SIDES[event.key]) {
    if (!pair || (typing && $("text").value)) return;  // in a text the arrows move the caret
    event.preventDefault();
    if (!event.repeat) choose(SIDES[event.key]);
    return;
  }
  const value = ARROWS[event.key] ?? (typing ? undefined : SIGNS[event.key]);
  if (value === undefined || event.target === $("chat")) return;
  event.preventDefault();
  if (!event.repeat) press(value);
});

post("welcome").then(welcome => { document.body.classList.add(welcome.form); askName(welcome, begin); }).catch(() => {});

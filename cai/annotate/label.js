// One pair after the other: show it, wait for a key, send the choice, and show the next only when it is saved.
const SIDES = {left: "left", right: "right", tie: "tie", skip: "skipped"};
const TOO_SOON = 250; // ms: a key that quick after a new pair was meant for the last one
let rater = "", task = null, last = null, again = 0, line = 1, busy = false, pending = null;
let shown = 0, away = 0, hiddenAt = 0;

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else if (hiddenAt) { away += performance.now() - hiddenAt; hiddenAt = 0; }
});

function turn(message) {
  const block = element("div", "", "turn " + message.role);
  block.append(element("span", message.role, "role"), element("div", message.content, "text"));
  return block;
}

function mark(side, kind) {
  for (const node of document.querySelectorAll("." + kind)) node.classList.remove(kind);
  if (!side) return;
  $(side)?.classList.add(kind);
  document.querySelector(`[data-choice="${side}"]`)?.classList.add(kind);
}

function present(state, told) {
  task = state.task;
  pending = null;
  line = state.progress.line;
  const {total, labelled, skipped, seconds_left} = state.progress;
  if (!task) return finish(told);
  const done = labelled + skipped;
  $("where").textContent = `${Math.min(done + 1, total)} of ${total}`;
  $("pace").textContent = [
    seconds_left === null ? "" : `about ${duration(seconds_left)} left`, skipped ? `${skipped} skipped` : "",
  ].filter(Boolean).join(" · ");
  $("rater").textContent = state.rater;
  $("bar").value = done / total;
  document.title = `${done} of ${total} – label pairs`;
  $("question").hidden = !task.principle;
  $("principle").textContent = task.principle && task.principle.name !== task.principle.prefer ? task.principle.name : "";
  $("prefer").textContent = task.principle ? task.principle.prefer : "";
  $("chat").replaceChildren(...task.messages.map(turn));
  for (const side of ["left", "right"]) $(side).querySelector(".text").textContent = task[side];
  mark(null, "chosen");
  mark(task.before, "before");
  $("note").value = task.note;
  $("undo").disabled = done === 0;
  $("told").textContent = told;
  show("work");
  for (const panel of document.querySelectorAll(".panel")) panel.scrollTop = 0;
  $("chat").scrollTop = $("chat").scrollHeight; // the last turn is what was answered
  $("where").focus({preventScroll: true});
  shown = performance.now();
  away = 0;
}

async function choose(choice) {
  if (busy || !task || performance.now() - shown < TOO_SOON) return;
  busy = true;
  const note = $("note").value;
  // A choice that got lost on the way is sent again as it was, so that the server can tell it from a second one.
  if (!pending || pending.choice !== choice || pending.note !== note) {
    const seconds = Math.round(performance.now() - shown - away) / 1000;
    pending = {rater, pair_id: task.pair_id, principle: task.principle && task.principle.name, choice, note, seconds, again};
  }
  mark(choice, "chosen");
  try {
    const state = await post("label", pending);
    last = choice === "skip" ? null : {pair_id: pending.pair_id, principle: pending.principle};
    present(state, choice === "skip" ? "Skipped." : `Saved: ${SIDES[choice]}. Press j to see what others said of that pair.`);
  } catch { mark(null, "chosen"); } finally { busy = false; }
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const state = await post("undo", {rater});
    last = null;
    present(state, `Undone: it was ${SIDES[state.task.before]}. Choose anew.`);
  } catch { /* shown */ } finally { busy = false; }
}

// What the judge and others said of the pair before: only on request, and only after the choice.
async function reveal() {
  if (busy || !last) return;
  let held;
  try { held = await post("reveal", {rater, ...last}); } catch { return; }
  const side = p => p === 0.5 ? "tie" : p > 0.5 ? "left" : "right";
  const parts = [`you: ${side(held.mine)}`];
  if (held.judge !== null) parts.push(`judge: left ${percent(held.judge)}`);
  if (held.reward !== null) parts.push(`reward model: ${side(0.5 + held.reward)} by ${Math.abs(held.reward).toFixed(2)}`);
  if (held.human !== null) parts.push(`people in the data: left ${percent(held.human)}`);
  for (const other of held.raters) parts.push(`${other.name}: ${side(other.left)}`);
  if (parts.length === 1) parts.push("nobody else has judged it");
  const text = `The pair before – ${parts.join("; ")}. Your choice stands now.`;
  (task ? $("told") : $("end-told")).textContent = text;
}

function interval(estimate, scale) {
  if (estimate.value === null) return "–";
  const end = x => x === null ? "–" : (scale === 100 ? Math.round(100 * x) : x.toFixed(2));
  return `${end(estimate.value)}${scale === 100 ? "%" : ""} [${end(estimate.low)}, ${end(estimate.high)}]`;
}

async function finish(told) {
  show("end");
  document.title = "done – label pairs";
  $("end-title").textContent = "All done";
  $("end-told").textContent = told;
  $("end-title").focus();
  $("alone").textContent = "Working it out …";
  $("agreement").hidden = true;
  let held;
  try { held = await post("summary", {rater}); } catch { return; }
  if (task) return; // the rater went back meanwhile
  const {left, right, tie, skip} = held.chosen;
  const facts = {
    "rater": held.rater, "labelled": `${held.labelled} of ${held.total}`, "left, right, tie": `${left}, ${right}, ${tie}`,
    "skipped": skip, "notes": held.notes, "time for one": held.seconds === null ? "–" : `${held.seconds.toFixed(1)} s (median)`,
    "file": held.file,
  };
  $("counts").replaceChildren(...Object.entries(facts).flatMap(([name, fact]) => [element("dt", name), element("dd", fact)]));
  $("again").hidden = !skip;
  $("again").querySelector("span").textContent = `Look at the ${skip === 1 ? "skipped one" : skip + " skipped"} again`;
  $("end-undo").disabled = held.labelled + skip === 0;
  $("agreement").hidden = !held.agreement.length;
  $("alone").textContent = held.agreement.length
    ? "With 95% intervals, prompts resampled. A tie counts half against a preference; kappa is what is left of the agreement when chance is taken off."
    : "No second rater has labelled the same questions yet.";
  $("agreement").tBodies[0].replaceChildren(...held.agreement.map(({raters, same, kappa}) => {
    const row = element("tr");
    row.append(element("td", raters.join(" and ")), element("td", interval(same, 100)), element("td", interval(kappa, 1)), element("td", same.n));
    return row;
  }));
  $("faults").replaceChildren(...Object.entries(held.faults).map(([why, n]) => element("li", `In the file: ${why} (${n})`)));
  $("use").textContent = `labels: {human: ${held.file}}`;
  $("export").textContent = `python -m cai.annotate PAIRS --export ${held.file} --out pairs.jsonl`;
}

async function lookAgain() {
  if (busy) return;
  again = line;
  try { present(await post("next", {rater, again}), "Skipped before."); } catch { /* shown */ }
}

async function begin(name) {
  try {
    const state = await post("next", {rater: name});
    rater = state.rater;
    present(state, state.progress.labelled ? "Welcome back: going on where you stopped." : "");
  } catch { /* shown */ }
}

const KEYS = {1: () => choose("left"), 2: () => choose("right"), 0: () => choose("tie"), s: () => choose("skip"), u: undo, n: () => $("note").focus(), j: reveal};
const END_KEYS = {s: () => $("again").hidden || lookAgain(), u: undo, j: reveal};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target === $("note")) {
    if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); $("where").focus(); }
    return;
  }
  const keys = $("enter").hidden ? ($("work").hidden ? END_KEYS : KEYS) : {};
  const act = keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  if (!event.repeat) act();
});
for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => choose(button.dataset.choice));
$("undo").addEventListener("click", undo);
$("end-undo").addEventListener("click", undo);
$("again").addEventListener("click", lookAgain);

post("welcome").then(welcome => {
  const each = welcome.total === welcome.pairs ? "" : `, ${welcome.total} questions: one principle at a time`;
  $("scope").textContent = `${welcome.pairs} pairs of answers${each}. For each, say which of the two is better. You are not told who wrote them.`;
  askName(welcome, begin);
}).catch(() => {});

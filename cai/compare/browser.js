// The browser of examples. Texts of models reach the page through textContent and nothing else.
const HEIGHT = 54; // of a row of the list, in pixels, as in report.css
const box = document.getElementById("browser");
const rows = JSON.parse(document.getElementById("rows").textContent);
const byId = new Map(rows.map((row, i) => [row.id, i]));
const element = name => document.getElementById(name);
const list = element("list"), article = element("one"), sizer = document.createElement("div");
let shown = rows.map((_, i) => i), open = -1;

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name === "style") for (const [key, item] of Object.entries(value)) node.style.setProperty(key, item);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined).map(child =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return node;
}
const figure2 = x => x === null || x === undefined ? "–" : (Math.abs(x) < 0.005 ? 0 : x).toFixed(2).replace("-", "−");
const colourOf = arm => box.dataset.arms === undefined ? "var(--muted)" : JSON.parse(box.dataset.arms)[arm] ?? "var(--muted)";
const mark = arm => make("span", {class: "mark", style: {"--c": colourOf(arm)}}, arm);

// --- what is shown ---

const texts = [];
function textOf(i) {
  const words = [];
  (function walk(value) {
    if (typeof value === "string") words.push(value);
    else if (value && typeof value === "object") Object.values(value).forEach(walk);
  })(rows[i]);
  return texts[i] ??= words.join("\n").toLowerCase();
}
const principles = row => new Set(row.kind === "label" ? row.votes.map(vote => vote[1]) : row.rounds.map(r => r.principle));
const against = row => row.kind === "label" && row.ai !== null && row.human !== null ? Math.abs(row.ai - row.human) : -1;
const sureness = row => row.kind === "label" && row.ai !== null ? -Math.abs(row.ai - 0.5) : -1;
const ORDERS = {run: null, gap: row => row.gap ?? -1, against, unsure: sureness};

function filter() {
  const words = element("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = element("kind").value, category = element("category").value, principle = element("principle").value;
  const disagree = element("disagree").checked, judge = element("against").checked;
  shown = [];
  rows.forEach((row, i) => {
    if ((!kind || row.kind === kind) && (!category || row.subset === category) && (!disagree || row.disagree)
      && (!judge || row.against) && (!principle || principles(row).has(principle))
      && words.every(word => textOf(i).includes(word))) shown.push(i);
  });
  const order = ORDERS[element("order").value];
  if (order) shown.sort((a, b) => order(rows[b]) - order(rows[a]) || a - b);
  element("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  list.scrollTop = 0;
  paint(true);
  if (!shown.includes(open)) select(shown[0] ?? -1);
}

function options(name, values) {
  for (const value of [...new Set(values)].sort()) if (value) element(name).append(make("option", {value}, value));
}

// --- the list: only the rows in sight exist ---

let painted = "";
function paint(anew = false) {
  const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 5);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + 5);
  if (!anew && painted === `${first} ${last}`) return;
  painted = `${first} ${last}`;
  sizer.style.height = `${shown.length * HEIGHT}px`;
  sizer.replaceChildren(...shown.slice(first, last).map((i, k) => {
    const row = rows[i], last_ = row.prompt.at(-1)?.content ?? "";
    const facts = row.kind === "label"
      ? ["pair", row.subset, `people ${figure2(row.human)}`, row.ai === null ? (row.reason ? "AI abstained" : null) : `AI ${figure2(row.ai)}`]
      : ["transcript", row.subset, `${row.rounds.length} revision${row.rounds.length === 1 ? "" : "s"}`];
    if (row.disagree) facts.push("arms disagree");
    const node = make("div", {class: "row", role: "option", id: `row-${i}`, "aria-selected": i === open, "aria-posinset": first + k + 1,
      "aria-setsize": shown.length, style: {top: `${(first + k) * HEIGHT}px`}},
      make("span", {}, last_.slice(0, 160)), make("span", {class: "tag"}, facts.filter(Boolean).join(" · ")));
    node.addEventListener("click", () => select(i));
    return node;
  }));
}

function select(i, jump = true) {
  open = i;
  if (i < 0) {
    article.replaceChildren(make("p", {class: "muted"}, "No example is like this."));
    list.removeAttribute("aria-activedescendant");
    return paint(true);
  }
  const place = shown.indexOf(i);
  if (jump && (place * HEIGHT < list.scrollTop || (place + 1) * HEIGHT > list.scrollTop + list.clientHeight))
    list.scrollTop = (place - 2) * HEIGHT;
  paint(true);
  list.setAttribute("aria-activedescendant", `row-${i}`);
  render(rows[i], place);
}

const address = row => `#row=${encodeURIComponent(row.id)}`;
function follow() {
  const wanted = location.hash.startsWith("#row=") ? decodeURIComponent(location.hash.slice(5)) : null;
  if (wanted === null) return;
  const i = byId.get(wanted);
  if (i === undefined) {
    element("count").textContent = `no example is called ${wanted}`;
  } else {
    if (!shown.includes(i)) {
      element("filters").reset();
      filter();
    }
    select(i);
  }
  element("examples").scrollIntoView();
}

// --- one row ---

function render(row, place) {
  const step = (by, name) => {
    const button = make("button", {type: "button"}, name);
    button.disabled = shown[place + by] === undefined;
    button.addEventListener("click", () => select(shown[place + by]));
    return button;
  };
  const head = make("header", {}, make("span", {class: "grow"}, `${place + 1} of ${shown.length} · ${row.subset}`),
    make("a", {href: address(row)}, "link to this row"), step(-1, "previous"), step(1, "next"));
  article.replaceChildren(head, ...row.prompt.map(turn => turnOf(turn.role, turn.content)),
    ...(row.kind === "label" ? pair(row) : transcript(row)));
}
const turnOf = (role, text) => make("div", {class: "turn"}, make("span", {class: "role"}, role), make("div", {class: "text"}, text));

function pair(row) {
  const colour = {"--c": "var(--ink)"};
  const opinions = [["people", null, row.human], ["AI judge", null, row.ai],
    ...row.opinions.map(opinion => [opinion.name, opinion.arm, opinion.p])];
  const parts = [
    make("div", {class: "side"}, ...["a", "b"].map(side => make("div", {style: colour},
      make("span", {class: "role"}, `answer ${side.toUpperCase()}`), make("div", {class: "text"}, row[side])))),
    table("P(A is better)", ["Who", "P"], opinions.map(([name, arm, p]) => [name,
      p === null || p === undefined ? (name === "AI judge" && row.reason ? `abstained: ${row.reason}` : "–")
        : make("span", {}, make("span", {class: "bar", style: {"--p": p, "--c": colourOf(arm)}}), figure2(p))])),
  ];
  if (row.people.length > 1)
    parts.push(make("p", {class: "scores"}, "Raters: ", row.people.map(([name, p]) => `${name} ${figure2(p)}`).join(", ")));
  if (row.votes.length)
    parts.push(table("The judge's votes. Order: which answer was shown first, or each alone. Mass: the probability that all readable options had together.",
      ["Principle", "Method", "Order", "P", "Mass"], row.votes.map(([method, principle, order, p, mass, fault, reply]) =>
        [make("span", {}, principle, reply ? make("small", {}, reply) : null), method, order, fault || figure2(p), figure2(mass)])));
  return parts;
}

function table(caption, titles, lines) {
  const head = make("tr", {}, ...titles.map(title => make("th", {scope: "col"}, title)));
  const body = lines.map(([name, ...cells]) => make("tr", {}, make("th", {scope: "row"}, name),
    ...cells.map((cell, i) => make("td", {class: "number", "data-label": titles[i + 1]}, make("span", {}, cell)))));
  return make("div", {class: "scroll"}, make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body)));
}

let compare = "draft"; // what revisions are compared with: "draft", "before" or "" (nothing)
function transcript(row) {
  const parts = [];
  if (row.draft !== undefined && row.draft !== null) {
    const choose = make("select", {"aria-label": "Changes of the revisions", id: "changes"}, ...[["draft", "changes from the draft"],
      ["before", "changes from the step before"], ["", "no changes shown"]].map(([value, text]) => make("option", {value}, text)));
    choose.value = compare;
    choose.addEventListener("change", () => {
      compare = choose.value;
      render(row, shown.indexOf(open));
      element("changes").focus();
    });
    parts.push(make("div", {class: "head"}, make("h4", {}, "Draft, critiques, revisions"), row.rounds.length ? choose : null),
      turnOf("draft", row.draft));
    row.rounds.forEach((round, n) => {
      const before = compare === "before" && n ? row.rounds[n - 1].revision : row.draft;
      parts.push(make("div", {class: "round"}, make("span", {class: "role"}, `round ${n + 1}: ${round.principle}`),
        round.critique ? turnOf("critique", round.critique) : null,
        make("div", {class: "turn"}, make("span", {class: "role"}, before === round.revision ? "revision, unchanged" : "revision"),
          make("div", {class: "text"}, ...(compare ? changes(before, round.revision) : [round.revision])))));
    });
  }
  if (row.answers.length) parts.push(make("h4", {}, "Answers"));
  for (const seed of new Set(row.answers.map(answer => answer.seed)))
    parts.push(make("div", {class: "side"}, ...row.answers.filter(answer => answer.seed === seed).map(answer =>
      make("div", {style: {"--c": colourOf(answer.arm)}},
        make("span", {class: "role"}, mark(answer.arm), seed === null ? "" : `, seed ${seed}`),
        make("div", {class: "text"}, answer.text),
        make("div", {class: "scores"}, ...Object.entries(answer.scores).sort(([a], [b]) => a < b ? -1 : 1).flatMap(([name, score]) =>
          [make("span", {}, `${name} ${figure2(score)}`), " "]))))));
  return parts;
}

// --- word by word: the longest common subsequence of two texts, shown as what was taken out and put in ---

const tokens = text => text.match(/\s+|[\p{L}\p{N}'’]+|[^\s\p{L}\p{N}]/gu) ?? [];
function changes(from, to) {
  const a = tokens(from), b = tokens(to), n = a.length, m = b.length;
  if (n * m > 2e7) return [make("del", {}, from), make("ins", {}, to)]; // texts that long are read, not compared
  const common = new Uint16Array((n + 1) * (m + 1)); // of what is left of both from (i, j) on
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      common[i * (m + 1) + j] = a[i] === b[j] ? 1 + common[(i + 1) * (m + 1) + j + 1]
        : Math.max(common[(i + 1) * (m + 1) + j], common[i * (m + 1) + j + 1]);
  const parts = []; // [text taken out, text put in, text kept after them]
  let out = "", put = "", kept = "";
  const flush = () => { if (out || put || kept) parts.push([out, put, kept]); out = put = kept = ""; };
  for (let i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && a[i] === b[j]) {
      kept += a[i++];
      j++;
      continue;
    }
    if (kept.trim() || !(out || put)) flush();
    else { out += kept; put += kept; kept = ""; } // a change goes on over a mere space
    if (j >= m || (i < n && common[(i + 1) * (m + 1) + j] >= common[i * (m + 1) + j + 1])) out += a[i++];
    else put += b[j++];
  }
  flush();
  return parts.flatMap(([gone, come, same]) => [gone && make("del", {}, gone), come && make("ins", {}, come), same].filter(Boolean));
}

// --- wiring ---

if (rows.length) {
  box.hidden = false;
  list.append(sizer);
  options("category", rows.map(row => row.subset));
  options("principle", rows.flatMap(row => [...principles(row)]));
  let waiting = 0;
  list.addEventListener("scroll", () => { waiting ||= requestAnimationFrame(() => { waiting = 0; paint(); }); });
  new ResizeObserver(() => paint(true)).observe(list);
  element("filters").addEventListener("input", filter);
  element("filters").addEventListener("submit", event => event.preventDefault());
  list.addEventListener("keydown", event => {
    const page = Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 1), place = shown.indexOf(open);
    const to = {ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: shown.length - 1}[event.key];
    if (to === undefined || !shown.length) return;
    event.preventDefault();
    select(shown[Math.min(shown.length - 1, Math.max(0, to))]);
  });
  addEventListener("hashchange", follow);
  filter();
  follow();
}

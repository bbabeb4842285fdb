"use strict";
document.documentElement.classList.add("js");
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// Tables become lists on narrow screens, where each cell needs the title of its column.
for (const table of all(".scroll:not(.matrix) table")) {
  const titles = all("thead th", table).map(cell => cell.textContent);
  for (const row of table.tBodies[0]?.rows ?? [])
    [...row.cells].forEach((cell, i) => { if (cell.tagName === "TD") cell.dataset.label = titles[i] ?? ""; });
}

// The list of sections marks the one that is being read; on a narrow screen it is a menu, which closes behind a choice.
const menu = document.querySelector("nav details"), narrow = matchMedia("(max-width: 72rem)");
const links = all("nav a"), targets = links.map(link => document.querySelector(link.hash));
function follow_scroll() {
  const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const here = scrollY < 9 ? 0 : end ? targets.length - 1 : targets.findLastIndex(target => target.getBoundingClientRect().top <= innerHeight / 4);
  links.forEach((link, i) => i === Math.max(0, here) ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
}
const settle = () => { menu.open = !narrow.matches; };
narrow.addEventListener("change", settle);
menu.addEventListener("click", event => { if (event.target.closest("a")) settle(); });
addEventListener("scroll", follow_scroll, {passive: true});
addEventListener("resize", follow_scroll);
settle();
follow_scroll();

// What is folded is printed as well.
let folded = [];
addEventListener("beforeprint", () => { folded = all("details:not([open])"); folded.forEach(fold => { fold.open = true; }); });
addEventListener("afterprint", () => { folded.forEach(fold => { fold.open = false; }); });

// The numbers of what is nearest to the pointer. Without this script a browser shows the titles of the marks.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
for (const title of all(".plot title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
const figures3 = x => Number(x.toPrecision(3)).toLocaleString("en").replace("-", "−");
const value = ([low, high, logarithmic], share) => logarithmic ? low * (high / low) ** share : low + (high - low) * share;
const middle = node => { const box = node.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; };
function* marks(svg) { // [text, [x, y] in the window] of each mark, and of each corner of a line without marks
  for (const node of all("[data-tip]", svg)) yield [node.dataset.tip, middle(node.querySelector("circle:not(.ring), path"))];
  for (const line of all("[data-name] polyline", svg)) {
    const box = line.ownerSVGElement.getBoundingClientRect();
    const [x, y] = ["x", "y"].map(way => svg.dataset[way].split(" ").map(Number));
    for (const {x: across, y: down} of line.points) {
      const at = [value(x, across / 100), value(y, 1 - down / 100)].map(figures3);
      yield [`${line.closest("[data-name]").dataset.name}\n${at.join(": ")}`, [box.x + box.width * across / 100, box.y + box.height * down / 100]];
    }
  }
}
function nearest({target, clientX, clientY}) { // of a row of dots all marks, of a chart the one that is nearest
  const svg = target.closest?.(".strip, .chart")?.querySelector("svg"), near = svg ? [...marks(svg)] : [];
  if (target.closest?.(".strip") && near.length > 1)
    return [near.map(([text]) => text.replace("\n", ": ").replace("\n", ", ")).join("\n"), [clientX, near.at(-1)[1][1]]];
  const far = ([, [x, y]]) => Math.hypot(x - clientX, y - clientY);
  const best = near.reduce((a, b) => a && far(a) <= far(b) ? a : b, null);
  return best && (target.closest(".strip") || far(best) < 40) ? best : null;
}
function point(event) {
  const best = nearest(event);
  tip.hidden = !best;
  if (!best) return;
  const [text, [x, y]] = best, page = document.documentElement;
  tip.textContent = text;
  const left = Math.min(x + 12, page.clientWidth - tip.offsetWidth - 8);
  const top = y + 14 + tip.offsetHeight > innerHeight ? y - 14 - tip.offsetHeight : y + 14;
  Object.assign(tip.style, {left: `${Math.max(4, left) + scrollX}px`, top: `${top + scrollY}px`});
}
addEventListener("pointermove", point, {passive: true});
addEventListener("pointerdown", point, {passive: true});

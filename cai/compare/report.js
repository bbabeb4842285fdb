"use strict";
document.documentElement.classList.add("js");

// Tables become lists on narrow screens, where each cell needs the title of its column.
for (const table of document.querySelectorAll(".scroll:not(.matrix) table")) {
  const titles = [...table.querySelectorAll("thead th")].map(cell => cell.innerText);
  for (const row of table.tBodies[0]?.rows ?? [])
    [...row.cells].forEach((cell, i) => { if (cell.tagName === "TD") cell.dataset.label = titles[i] ?? ""; });
}

// Plots. plotly.js lies in the page packed; it is unpacked when the first plot is about to be seen, and runs because the
// policy of the page knows its hash.
const figures = [...document.querySelectorAll("figure.plot")];
const drawn = new Set();
let plotly = null;
const loaded = () => plotly ??= (async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), c => c.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(
    new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
  return window.Plotly;
})();

const NAMES = /^--(?:ink|muted|rule|band|paper|tint|arm-\d)$/;
function coloured(value, look) {
  if (typeof value === "string") return NAMES.test(value) ? look.getPropertyValue(value).trim() : value;
  if (Array.isArray(value)) return value.map(item => coloured(item, look));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, look)]));
}

function axis(own) {
  const names = own.own === "names";
  return {
    automargin: true, zeroline: false, showline: !names, linecolor: "--rule", gridcolor: "--rule", gridwidth: 0.5,
    ticks: names ? "" : "outside", tickcolor: "--rule", ticklen: 4, nticks: 6, ticklabeloverflow: "allow", exponentformat: "power", fixedrange: names,
    tickfont: {color: names ? "--ink" : "--muted"}, ...own, own: undefined,
    title: {...own.title, standoff: 8, font: {size: 12, color: "--muted"}},
  };
}

function draw(figure, look, width) {
  const canvas = figure.querySelector(".canvas");
  figure.spec ??= JSON.parse(figure.querySelector("script").textContent);
  const axes = Object.entries(figure.spec.layout).filter(([key]) => /^[xy]axis/.test(key));
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 12, r: 14, t: 10, b: 10},
    font: {family: getComputedStyle(canvas).getPropertyValue("--sans"), size: 12, color: "--ink"},
    legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom"}, hovermode: "closest",
    dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
    hoverlabel: {bgcolor: "--paper", bordercolor: "--muted", font: {color: "--ink"}, align: "left"},
    height: canvas.clientHeight, ...(width ? {width} : {autosize: true}), ...figure.spec.layout,
    ...Object.fromEntries(axes.map(([key, own]) => [key, axis(own)])),
  };
  const config = {displayModeBar: false, responsive: true, doubleClick: "reset"};
  window.Plotly.react(canvas, coloured(figure.spec.data, look), coloured(layout, look), config);
  drawn.add(figure);
}

const screenLook = () => getComputedStyle(document.documentElement);
async function show(figure) {
  try {
    await loaded();
    if (!drawn.has(figure)) draw(figure, screenLook());
  } catch (error) {
    figure.querySelector(".canvas").textContent = "This browser cannot draw the plot: see its numbers.";
    figure.querySelector("details").open = true;
    throw error;
  }
}
const seen = new IntersectionObserver(entries => {
  for (const entry of entries)
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      show(entry.target);
    }
}, {rootMargin: "300px"});
figures.forEach(figure => seen.observe(figure));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(f => draw(f, screenLook())));

// What is to be printed must be there before it is: the rest is drawn when there is nothing else to do.
const idle = window.requestIdleCallback ?? (go => setTimeout(go, 200));
const rest = [...figures];
function drawRest() {
  const figure = rest.shift();
  if (figure) show(figure).finally(() => idle(drawRest));
}
addEventListener("load", () => setTimeout(() => idle(drawRest), 1500));
addEventListener("beforeprint", () => {
  const look = getComputedStyle(document.getElementById("light"));
  if (window.Plotly) for (const figure of figures) draw(figure, look, figure.closest(".multiples") ? 300 : 620);
});
addEventListener("afterprint", () => drawn.forEach(figure => draw(figure, screenLook())));

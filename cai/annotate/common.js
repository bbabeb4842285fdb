"use strict";
// What all pages share. Texts reach the page through textContent alone; Trusted Types let nothing else.
const $ = id => document.getElementById(id);
// The token has become a cookie by now: it need not stay in the address bar, the history or a screenshot.
history.replaceState(null, "", "/");

function element(kind, text = "", className = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(screen) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== screen;
}

function complain(text) {
  $("fault").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  $("fault").hidden = !text;
}

// The server's answer; on a fault it is shown, and the promise fails.
async function post(action, body = {}) {
  let response, text;
  try {
    response = await fetch("/api/" + action, {
      method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
    });
    text = await response.text();
  } catch (error) {
    complain("The server cannot be reached, so this was not saved. Start it again, open the address that it prints, and go on.");
    throw error;
  }
  let held;
  try { held = JSON.parse(text); } catch { held = {error: text, remedy: ""}; }
  if (!response.ok) {
    complain([held.error, held.remedy].filter(Boolean).join(" – "));
    throw new Error(held.error);
  }
  complain("");
  return held;
}

// Ask who is there, then call begin(name). welcome: {raters: [{name, done}], open}.
function askName(welcome, begin) {
  $("names").replaceChildren(...welcome.raters.map(({name, done}) => {
    const button = element("button", name);
    button.type = "button";
    button.append(element("small", done ? `${done} done` : ""));
    button.addEventListener("click", () => begin(name));
    return button;
  }));
  $("typed").hidden = !welcome.open;
  $("who").addEventListener("submit", event => {
    event.preventDefault();
    if (welcome.open) begin($("name").value);
  });
  show("enter");
  (welcome.open && !welcome.raters.length ? $("name") : $("names").querySelector("button")).focus();
}

function percent(share) { return Math.round(100 * share) + "%"; }

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

"use strict";
const $ = (id) => document.getElementById(id);
const BUTTONS = ["person", "nobody", "skip", "back"];
const KEYS = {
  p: "person", arrowright: "person", n: "nobody", arrowleft: "nobody", s: "skip", " ": "skip", z: "back", backspace: "back",
};

/** Pictures by window: promises of the two elements, loaded before the window is shown. */
const pictures = new Map();
let state = null;
let shown = null; // the window on the screen
let busy = true; // no answer counts while one is being stored, or while the next window is loading

function element(name, properties = {}, ...children) {
  const result = Object.assign(document.createElement(name), properties);
  result.append(...children);
  return result;
}

async function request(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The review has ended, or its command was stopped. All confirmed answers are stored. Run `explain-cnn review` again to continue.");
  }
  const text = await response.text();
  const answer = text ? JSON.parse(text) : {};
  if (!response.ok) throw new Error(answer.error ?? `The request was refused (${response.status}). Open the address that the command prints.`);
  return answer;
}

/** Load both pictures of a window, once. */
function load(entry) {
  if (!pictures.has(entry.number)) {
    const all = ["context", "window"].map(async (kind) => {
      const image = element("img", { src: `${kind}/${entry.number}` });
      await image.decode();
      return image;
    });
    const both = Promise.all(all);
    both.catch(() => pictures.delete(entry.number)); // it is requested again
    pictures.set(entry.number, both);
  }
  return pictures.get(entry.number);
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function enable() {
  for (const name of BUTTONS) $(name).disabled = busy || (name === "back" ? state?.last === null : shown === null);
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${minutes}:${(seconds % 60).toFixed(2).padStart(5, "0")} min` : `${seconds.toFixed(2)} s`;
}

function chance(p) {
  for (const digits of [2, 3, 4]) if (Number(p.toFixed(digits)) % 1) return p.toFixed(digits);
  return p < 0.5 ? "below 0.0001" : "above 0.9999";
}

function show(entry, [context, network]) {
  context.alt = entry.box ? "Part of the frame, with the window as a box" : "The frame";
  network.alt = "The window as the network sees it";
  $("context-figure").style.setProperty("--aspect", entry.size[0] / entry.size[1]);
  $("network-figure").style.setProperty("--aspect", network.naturalWidth / network.naturalHeight);
  $("context").replaceChildren(context);
  if (entry.box) {
    const box = element("div", { className: "box" });
    const [left, top, width, height] = entry.box.map((share) => `${100 * share}%`);
    Object.assign(box.style, { left, top, width, height });
    $("context").append(box);
  }
  document.querySelector("h1").textContent = entry.box ? "Is there a person in the box?" : "Does the picture show a person?";
  $("context-caption").textContent = entry.box ? "in the frame" : "the frame";
  $("hint").hidden = !entry.box;
  $("network").replaceChildren(network);
  $("reasons").replaceChildren(...entry.reasons.map((text) => element("li", { textContent: text })));
  $("facts").textContent = `frame ${entry.frame} at ${clock(entry.seconds)} of ${entry.source} · P(person) ${chance(entry.probability)}, decided ${entry.person ? "person" : "nobody"}`;
}

function count() {
  const position = Math.min(state.done + (shown ? 1 : 0), state.total);
  $("position").textContent = state.total ? `${position} of ${state.total}` : "";
  $("progress").max = state.total || 1;
  $("progress").value = state.done;
}

/** Show what a state says; wait for the pictures if there is none yet. */
async function follow(next) {
  state = next;
  while (state.loading) {
    shown = null;
    $("window").hidden = true;
    $("message").hidden = false;
    $("message").textContent = "Reading the next windows from the recording …";
    count();
    enable();
    state = await request("state");
  }
  const [entry, ...ahead] = state.windows;
  const needed = new Set(state.windows.map((window) => window.number));
  for (const number of pictures.keys()) if (!needed.has(number)) pictures.delete(number);
  if (entry) {
    const loaded = await load(entry);
    show(entry, loaded);
  }
  shown = entry ?? null;
  for (const window of ahead) load(window).catch(() => {});
  $("message").hidden = true;
  $("window").hidden = !entry;
  $("end").hidden = Boolean(entry);
  if (!entry) {
    const { person, nobody, skip } = state.counts;
    document.querySelector("h1").textContent = "Review";
    $("end-title").textContent = state.total ? "All windows have an answer" : "None of the frames could be read";
    $("summary").textContent = `${person + nobody} labels in this review: ${person} person, ${nobody} nobody; ${skip} skipped.`;
    $("file").textContent = state.file;
    $("end-title").focus();
  }
  count();
}

/** Send a change of the review, and show the state after it. */
async function change(path, body) {
  busy = true;
  enable();
  try {
    const next = await request(path, body);
    await follow(next);
    problem(next.stale ? "This window was answered in another page. That answer stays." : "");
  } catch (error) {
    problem(error.message);
  }
  busy = false;
  enable();
}

function act(name) {
  if (busy || $(name).disabled) return;
  const button = $(name);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 120);
  if (name === "back") change("back", { window: state.last });
  else change("answer", { window: shown.number, answer: name });
}

async function finish() {
  if (busy || shown || !state) return;
  busy = true;
  enable();
  try {
    await request("end", {});
    $("end").replaceChildren(element("h2", { textContent: "The review has ended" }), element("p", { textContent: "You can close this page." }));
    $("actions").hidden = true;
  } catch (error) {
    problem(error.message);
    busy = false;
    enable();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const onButton = event.target instanceof HTMLButtonElement;
  const key = event.key.toLowerCase();
  // A button that has the focus is pressed by the browser.
  if (onButton && (key === " " || key === "enter")) return;
  const name = KEYS[key];
  if (name || key === "enter") event.preventDefault();
  if (event.repeat) return;
  if (name) act(name);
  else if (key === "enter") finish();
});

for (const name of BUTTONS) {
  $(name).addEventListener("click", (event) => {
    // After a click with the mouse, the space bar must not press this button.
    if (event.detail) event.currentTarget.blur();
    act(name);
  });
}
$("finish").addEventListener("click", finish);
change("state");

"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** Create an element with attributes and children. Text is never read as HTML. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(0)} %` : "–");
const words = (name) => name.replaceAll("_", " ");
const title = (metric) => data.metrics[metric]?.title ?? words(metric);
const caption = (metric) => data.metrics[metric]?.caption ?? "";
/** Return the dashes that leave only the corners of a box, a quarter of each side, beginning at its top left. */
function corners(width, height) {
  const [a, b] = [width / 4, height / 4];
  return [a, 2 * a, a + b, 2 * b, b + a, 2 * a, a + b, 2 * b, b];
}

/** Layers differ in colour and in the dashes of their lines. */
const layerColour = (layer) => data.layers[layer].colour;
const layerDash = (layer) => ["", "7 2", "2 2"][data.layers[layer].width - 1];

/** Write the meaning of a high score by a metric into an element. */
function describe(element, metric) {
  element.textContent = caption(metric) ? `${title(metric)}: a high score means “${caption(metric)}”.` : "";
}

function clock(seconds) {
  const tenths = Math.round(10 * seconds), minutes = Math.floor(tenths / 600);
  return minutes ? `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}` : `${seconds.toFixed(2)} s`;
}

/** Return round steps of an axis from 0 to `end`. */
function ticks(end, most) {
  const raw = end / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step);
}

/** Draw the axes of a chart, and return functions that convert values to coordinates: shares of `most`, the upper end. */
function plot(svg, { width = window.innerWidth < 760 ? 440 : 1000, height = 200, end, label, unit = " s", most = 1 }) {
  const left = 44, right = width - 12, top = 10, bottom = height - 26;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", label);
  const x = (t) => left + ((right - left) * t) / (end || 1);
  const y = (v) => bottom - (bottom - top) * v;
  for (const value of most === 1 ? [0, 0.25, 0.5, 0.75, 1] : ticks(most, 4)) {
    const v = value / most;
    svg.append(draw("line", { x1: left, x2: right, y1: y(v), y2: y(v), stroke: "var(--line)" }));
    svg.append(draw("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, String(+value.toPrecision(3))));
  }
  for (const t of ticks(end, width < 500 ? 4 : 8)) {
    svg.append(draw("text", { x: x(t), y: height - 8, "text-anchor": "middle" }, unit && t >= 120 ? clock(t) : `${+t.toFixed(2)}${unit}`));
  }
  return { x, y, left, right, top, bottom };
}

function details(list, values) {
  list.replaceChildren();
  for (const [name, value] of Object.entries(values)) {
    const text = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
    list.append(make("dt", {}, name), make("dd", {}, text));
  }
}

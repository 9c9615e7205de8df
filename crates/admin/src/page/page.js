// Draws the two charts from /api/v1/history every second, and every two seconds takes the parts marked data-live from
// a fresh copy of the page. While admin does not answer, the page is greyed out.
"use strict";

const SPANS = [120, 300, 600]; // seconds shown, a step a second: the least that holds all there is
const SMOOTH = 10;             // legs commit every few seconds: rates are means over as many steps
const MARGIN = { left: 56, right: 10, top: 10, bottom: 22 };
const stream = document.body.dataset.stream;
const pointer = new Map();     // chart id -> x of the pointer over it
let history = null;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Mean of the last steps up to each one.
function smoothed(values) {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= SMOOTH ? values[i - SMOOTH] : 0);
    return sum / Math.min(i + 1, SMOOTH);
  });
}

// A value holds for a while after its commit, then there is a gap.
function held(values) {
  let last = null, age = 0;
  return values.map((value) => {
    [last, age] = value === null ? [last, age + 1] : [value, 0];
    return age <= 2 * SMOOTH ? last : null;
  });
}

// The least round number that is no less than the value, and so is its half.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((bound) => bound >= value);
}

// A number on an axis, or a time in ms as people say it.
function label(value, unit) {
  if (unit !== "ms") return short.format(value);
  return value < 1000 ? `${number.format(value)} ms` : `${number.format(value / 1000)} s`;
}

function path(values, x, y) {
  let drawing = false;
  return values.map((value, i) => {
    if (value === null) { drawing = false; return ""; }
    const step = `${drawing ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    drawing = true;
    return step;
  }).join("");
}

function draw(figure, first, second) {
  const svg = figure.querySelector("svg");
  const { width, height } = svg.getBoundingClientRect();
  const bottom = height - MARGIN.bottom, span = width - MARGIN.left - MARGIN.right;
  const count = first.length, seconds = SPANS.find((seconds) => seconds >= count) ?? count;
  const pixels = span / (seconds - 1);
  const x = (i) => width - MARGIN.right - (count - 1 - i) * pixels;
  const top = roundUp(Math.max(1, ...first, ...second));
  const y = (value) => bottom - (value / top) * (bottom - MARGIN.top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share);
    parts.push(element("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
    parts.push(element("text", { x: MARGIN.left - 7, y: at + 4, "text-anchor": "end" }, label(top * share, figure.dataset.unit)));
  }
  for (const share of [1, 0.8, 0.6, 0.4, 0.2, 0]) {
    const ago = seconds * share;
    const time = ago === 0 ? "now" : ago % 60 === 0 ? `−${ago / 60} min` : `−${ago} s`;
    const anchor = share === 0 ? "end" : share === 1 ? "start" : "middle";
    parts.push(element("text", { x: width - MARGIN.right - span * share, y: height - 5, "text-anchor": anchor }, time));
  }
  if (count > 1 && !first.includes(null)) {
    parts.push(element("path", { class: "area", d: `${path(first, x, y)}L${x(count - 1)} ${bottom}L${x(0)} ${bottom}Z` }));
  }
  parts.push(element("path", { class: "line first", d: path(first, x, y) }));
  parts.push(element("path", { class: "line second", d: path(second, x, y) }));
  const index = Math.round(count - 1 - (width - MARGIN.right - (pointer.get(figure.id) ?? Infinity)) / pixels);
  const shown = index >= 0 && index < count ? index : null;
  if (shown !== null) {
    parts.push(element("line", { class: "cursor", x1: x(shown), x2: x(shown), y1: MARGIN.top, y2: bottom }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
  tell(figure, shown, count, first, second);
}

// The values under the pointer.
function tell(figure, shown, count, first, second) {
  const unit = figure.dataset.unit;
  const text = (value) => (value === null ? "–" : unit === "ms" ? label(value, unit) : number.format(value) + unit);
  figure.querySelector("output").textContent = shown === null
    ? ""
    : `${count - 1 - shown} s ago: ${text(first[shown])}, ${text(second[shown])}`;
}

function drawAll() {
  if (history === null) return;
  draw(document.getElementById("flow"), smoothed(history.received), smoothed(history.delivered));
  draw(document.getElementById("delay"), held(history.delay_ms_p50), held(history.delay_ms_p99));
}

async function answered(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
}

async function freshHistory() {
  const query = stream ? `?stream=${encodeURIComponent(stream)}` : "";
  history = await (await answered(`/api/v1/history${query}`)).json();
  drawAll();
}

async function freshParts() {
  const page = new DOMParser().parseFromString(await (await answered(location.href)).text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (fresh !== null && !part.contains(document.activeElement)) part.replaceWith(fresh);
  }
}

// Calls again after each answer, so that a slow admin is not asked faster than it answers.
async function every(ms, work) {
  for (;;) {
    if (!document.hidden) {
      const stale = await work().then(() => false, () => true);
      document.body.classList.toggle("stale", stale);
    }
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg");
  svg.addEventListener("pointermove", (event) => { pointer.set(figure.id, event.offsetX); drawAll(); });
  svg.addEventListener("pointerleave", () => { pointer.delete(figure.id); drawAll(); });
}
addEventListener("resize", drawAll);
every(1000, freshHistory);
every(2000, freshParts);

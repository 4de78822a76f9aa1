// Draws the training curve: two lines in an SVG, perplexity on a log scale against seconds.

import { decimal, whole } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 260;
const MARGIN = { top: 34, right: 14, bottom: 44, left: 46 };
const TICKS = [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000];
// With more points than this, dots would only blur the line.
const MOST_DOTS = 30;
const LINES = [
  { key: "train_perplexity", name: "train", className: "line-train" },
  { key: "eval_perplexity", name: "eval", className: "line-eval" },
];

/** Draw `curve` into `place`, and again whenever its width changes. */
export function showChart(place, curve) {
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth === width || !place.clientWidth) return;
    width = place.clientWidth;
    place.replaceChildren(draw(curve, width));
  }).observe(place);
}

function draw(curve, width) {
  const svg = node("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img" });
  svg.setAttribute("aria-labelledby", "chart-title chart-desc");
  svg.append(node("title", { id: "chart-title" }, "Training curve"), node("desc", { id: "chart-desc" }, inWords(curve)));

  const values = curve.flatMap((point) => LINES.map(({ key }) => point[key])).filter((value) => value > 0);
  const [low, high] = [Math.min(...values) / 1.05, Math.max(...values) * 1.05];
  const last = Math.max(...curve.map((point) => point.seconds)) || 1;
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (seconds) => MARGIN.left + (seconds / last) * (right - MARGIN.left);
  const y = (value) => bottom - (Math.log(value / low) / Math.log(high / low)) * (bottom - MARGIN.top);

  let lastY = Infinity;
  for (const tick of TICKS.filter((value) => value >= low && value <= high && value > 0)) {
    if (lastY - y(tick) < 18) continue;
    lastY = y(tick);
    svg.append(node("line", { class: "grid", x1: MARGIN.left, x2: right, y1: lastY, y2: lastY }));
    svg.append(node("text", { class: "tick", x: MARGIN.left - 6, y: lastY + 4, "text-anchor": "end" }, String(tick)));
  }
  const step = niceStep(last / Math.max(2, Math.floor(width / 90)));
  for (let tick = 0; tick <= last * 1.0001; tick += step) {
    svg.append(node("line", { class: "axis", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4 }));
    svg.append(node("text", { class: "tick", x: x(tick), y: bottom + 17, "text-anchor": "middle" }, whole(tick)));
  }
  svg.append(node("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
  svg.append(node("text", { class: "label", x: (MARGIN.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "seconds of training"));
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(node("text", { class: "label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, "perplexity (log scale)"));

  LINES.forEach(({ key, name, className }, at) => {
    const points = curve.filter((point) => point[key] > 0).map((point) => [x(point.seconds), y(point[key])]);
    svg.append(node("polyline", { class: className, points: points.map((point) => point.join(",")).join(" ") }));
    if (points.length <= MOST_DOTS) {
      for (const [cx, cy] of points) svg.append(node("circle", { class: `dot ${className}`, cx, cy, r: 3 }));
    }
    const left = MARGIN.left + 70 * at;
    svg.append(node("line", { class: className, x1: left, x2: left + 22, y1: 14, y2: 14 }));
    svg.append(node("text", { class: "label", x: left + 28, y: 18 }, name));
  });
  return svg;
}

function inWords(curve) {
  const parts = LINES.map(({ key, name }) => {
    const values = curve.map((point) => point[key]).filter((value) => value > 0); // null where it was not measured
    return `${name} perplexity from ${decimal(values[0])} to ${decimal(values.at(-1))}`;
  });
  return `In ${whole(Math.round(curve.at(-1).seconds))} seconds: ${parts.join(", ")}.`;
}

/** The smallest of 1, 2, 5, 10, 20, … that is no less than `least`. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= least * 0.999);
}

function node(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

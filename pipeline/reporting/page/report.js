// The charts, and the small window that says what one points at: a point of a chart, or a character of an excerpt.
(() => {
  "use strict";

  const { names, charts, excerpts } = JSON.parse(document.getElementById("data").textContent);
  const popover = document.getElementById("popover");
  const MARGIN = 8;
  let pointed = null;

  function make(tag, className, text = "") {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.textContent = text;
    return element;
  }

  /** Show `content` next to the rectangle `at`. */
  function show(content, at) {
    popover.replaceChildren(...content);
    popover.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = popover;
    const room = document.documentElement.clientWidth - width - MARGIN;
    const left = Math.max(MARGIN, Math.min(room, at.left + at.width / 2 - width / 2));
    const below = at.bottom + MARGIN;
    const above = at.top - MARGIN - height;
    popover.style.left = `${left}px`;
    popover.style.top = `${below + height > window.innerHeight && above > 0 ? above : below}px`;
  }

  function hide() {
    popover.hidden = true;
    for (const element of document.querySelectorAll(".pointed")) element.classList.remove("pointed");
    pointed = null;
  }

  // Charts

  function pairs(values) {
    const list = make("dl", "pairs");
    for (const [name, value] of Object.entries(values)) list.append(make("dt", "", name), make("dd", "", value));
    return list;
  }

  function tooltip(_, event, item, value) {
    if (!value || typeof value !== "object") hide();
    else show([pairs(value)], new DOMRect(event.clientX, event.clientY, 0, 0));
  }

  for (const [place, spec] of Object.entries(charts)) {
    // The expressions are interpreted: the page's policy allows no code that is made from text.
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip };
    vegaEmbed(document.getElementById(place), spec, options).catch((error) => console.error(place, error));
  }

  // Excerpts

  function bars(likely, sign) {
    const list = make("ul", "bars");
    for (let at = 0; at < likely.length; at += 2) {
      const row = make("li", likely[at] === sign ? "chosen" : "");
      const track = make("span", "track");
      const fill = make("span", "fill");
      fill.style.width = `${likely[at + 1]}%`;
      track.append(fill);
      row.append(make("span", "bar-char", likely[at]), track, make("span", "bar-figure", `${likely[at + 1].toFixed(1)} %`));
      list.append(row);
    }
    return list;
  }

  function described(number, at) {
    const { signs, bits, likely } = excerpts[number];
    const head = make("p", "popover-head");
    head.append(make("b", "popover-char", signs[at]), make("span", "", `${bits[at].toFixed(2)} bits`));
    const others = sameText(number).filter((other) => other !== number);
    if (!others.length) return [head, bars(likely[at], signs[at])];
    head.append(make("span", "dim", names[number]));
    const all = Object.fromEntries(others.map((other) => [names[other], `${excerpts[other].bits[at].toFixed(2)} bits`]));
    return [head, bars(likely[at], signs[at]), pairs(all)];
  }

  function sameText(number) {
    const text = excerpts[number].signs.join("");
    return excerpts.flatMap((one, at) => (one && one.signs.join("") === text ? [at] : []));
  }

  function point(span) {
    if (span === pointed) return;
    hide();
    pointed = span;
    const number = Number(span.parentElement.dataset.number);
    const at = Array.prototype.indexOf.call(span.parentElement.children, span);
    for (const other of sameText(number)) views[other].children[at].classList.add("pointed");
    show(described(number, at), span.getClientRects()[0]);
  }

  function move(event, view) {
    const to = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
    if (event.key === "Escape") hide();
    if (!to) return;
    event.preventDefault();
    const from = pointed && pointed.parentElement === view ? pointed[to] : view.firstElementChild;
    if (!from) return;
    from.scrollIntoView({ block: "nearest" });
    point(from);
  }

  const views = {};
  for (const view of document.querySelectorAll(".excerpt")) {
    views[view.dataset.number] = view;
    const over = (event) => event.target.parentElement === view && point(event.target);
    view.addEventListener("pointermove", over);
    view.addEventListener("click", over);
    view.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    view.addEventListener("keydown", (event) => move(event, view));
    view.addEventListener("blur", hide);
  }

  document.addEventListener("pointerdown", (event) => event.target.closest(".excerpt, .chart") || hide());
  window.addEventListener("scroll", () => document.activeElement?.matches(".excerpt") || hide(), { passive: true });
})();

// The entry point: connects the parts of the page, and keeps its state in the address.

import { showCard } from "./card.js";
import { copyLink, keepLink, readLink } from "./link.js";
import { Notices } from "./notices.js";
import { Popover } from "./popover.js";
import { Scoring } from "./scoring.js";
import { Settings } from "./settings.js";
import { setUpTabs } from "./tabs.js";
import { visible } from "./words.js";
import { Writing } from "./writing.js";

// At most this many of the prompt's unknown characters are shown.
const SHOWN_UNKNOWN = 12;

const part = (id) => document.getElementById(id);
const popover = new Popover(part("popover"));
const notices = new Notices(() => loadCard());
const settings = new Settings(part("controls"), part("seed"), () => changed());
const writing = new Writing(settings, notices, popover, () => changed());
const scoring = new Scoring(notices, popover);
let mode = "write";
let alphabet = null;

const showTab = setUpTabs(part("main").querySelector(".tabs"), (name) => {
  mode = name;
  writing.stop();
  scoring.stop();
  popover.hide();
  notices.moveTo(part(`notices-${name}`));
  part(`legend-${name}`).append(part("legend"));
  changed();
});

function stateNow() {
  const seed = settings.seed ?? writing.lastSeed;
  return {
    ...(mode === "score" ? { mode, text: part("score-text").value } : {}),
    prompt: part("prompt").value,
    ...settings.values(),
    ...(seed === null ? {} : { seed }),
    ...(part("compare").checked ? { compare: 1 } : {}),
    ...(part("shading").checked ? {} : { shading: 0 }),
  };
}

function restore(state) {
  part("prompt").value = state.prompt ?? part("prompt").defaultValue;
  part("score-text").value = state.text ?? "";
  settings.restore(state);
  settings.seed = /^\d+$/.test(state.seed) ? state.seed : null;
  part("compare").checked = state.compare === "1";
  part("shading").checked = state.shading !== "0";
  showChoices();
  showUnknown();
  showTab(state.mode === "score" ? "score" : "write");
}

function changed() {
  keepLink(stateNow);
}

function showChoices() {
  writing.compare(part("compare").checked);
  part("main").classList.toggle("unshaded", !part("shading").checked);
}

function showUnknown() {
  const unknown = alphabet ? [...new Set(part("prompt").value)].filter((char) => !alphabet.has(char)) : [];
  const more = unknown.length > SHOWN_UNKNOWN ? " …" : "";
  part("prompt-unknown").hidden = !unknown.length;
  part("prompt-unknown").textContent = unknown.length
    ? `The model does not know ${unknown.slice(0, SHOWN_UNKNOWN).map(visible).join(" ")}${more} and skips it.`
    : "";
}

async function loadCard() {
  const card = await showCard();
  if (!card) return;
  if (card.characters) alphabet = new Set(card.characters);
  settings.showNgram(card.ngram_order > 0);
  showUnknown();
}

part("prompt").addEventListener("input", () => {
  showUnknown();
  changed();
});
part("score-text").addEventListener("input", changed);
for (const id of ["compare", "shading"]) {
  part(id).addEventListener("change", () => {
    showChoices();
    changed();
  });
}
part("defaults").addEventListener("click", () => {
  settings.restore({});
  settings.seed = null;
  changed();
});
part("copy-link").addEventListener("click", async () => {
  const worked = await copyLink(stateNow());
  notices.status(worked ? "Link copied." : "The link is in the address bar: copy it from there.");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    popover.hide();
    writing.stop();
    scoring.stop();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (mode === "write") writing.begin();
    else scoring.run();
  }
});
window.addEventListener("hashchange", () => restore(readLink() ?? {}));

restore(readLink() ?? {});
loadCard();

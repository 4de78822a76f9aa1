// Shows the model's card.

import { showChart } from "./chart.js";
import { Failure } from "./failure.js";
import { showFigures } from "./figures.js";
import { readCard } from "./model.js";
import { decimal, whole } from "./words.js";

/** Fetch and show the card. Returns it, or null if it is not available. */
export async function showCard() {
  const note = document.getElementById("card-note");
  let card;
  try {
    card = await readCard();
  } catch (error) {
    note.hidden = false;
    note.textContent =
      error instanceof Failure && error.kind === "key"
        ? "The card needs the server's key."
        : "The card could not be read.";
    return null;
  }
  note.hidden = true;
  showFigures(document.getElementById("card-figures"), figuresOf(card));
  if (card.curve?.length > 1) showChart(document.getElementById("chart"), card.curve);
  return card;
}

function figuresOf(card) {
  const figures = [
    ["Perplexity", card.perplexity, (value) => decimal(value)],
    ["N-gram baseline", card.baseline_perplexity, (value) => `${decimal(value)} (${card.baseline})`],
    ["Bits per character", card.bits_per_char, (value) => decimal(value)],
    ["Corpus", card.corpus, String],
    ["Network", card.network, String],
    ["Parameters", card.parameters, whole],
    ["Trained on", card.train_chars, (value) => `${whole(value)} characters`],
    ["Measured on", card.eval_chars, (value) => `${whole(value)} characters`],
    ["Knows", card.characters && Array.from(card.characters).length, (value) => `${whole(value)} different characters`],
    ["Ends a text", card.ends, (ends) => (ends ? "by itself" : "only at the length that is set")],
    ["Version", card.version, String],
  ];
  return figures.filter(([, value]) => value !== null && value !== undefined).map(([name, value, show]) => [name, show(value)]);
}

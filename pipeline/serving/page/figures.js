// Shows a list of figures, each with its name.

/** Show `figures`, pairs of name and value, in the description list `place`. */
export function showFigures(place, figures) {
  place.replaceChildren(
    ...figures.map(([name, value]) => {
      const pair = document.createElement("div");
      const term = Object.assign(document.createElement("dt"), { textContent: name });
      const definition = Object.assign(document.createElement("dd"), { textContent: value });
      pair.append(term, definition);
      return pair;
    }),
  );
}

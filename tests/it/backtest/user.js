"use strict";
// A user at a page: what is seen after each thing done, as JSON in `#outcome`.
(() => {
  const outcome = {};
  const plot = document.querySelector("#plot svg");
  const whole = document.getElementById("whole");
  const all = (query) => [...document.querySelectorAll(query)];
  const point = (type, share, more) => {
    const box = plot.getBoundingClientRect();
    const at = { clientX: box.left + share * box.width, clientY: box.top + box.height / 2 };
    plot.dispatchEvent(new PointerEvent(type, { bubbles: true, isPrimary: true, ...at, ...more }));
  };
  const see = (name) => {
    outcome[name] = {
      ticks: all("#plot .ticks span").map((tick) => tick.textContent),
      bars: all("#plot .bar").length,
      brushes: all("#plot .brush").length,
      closer: !whole.hidden,
    };
  };
  see("whole");
  point("pointerdown", 0.1);
  point("pointermove", 0.3);
  see("dragging");
  point("pointerup", 0.5);
  see("dragged");
  whole.click();
  see("reset");
  // The browser takes the pointer for scrolling.
  point("pointerdown", 0.1);
  point("pointermove", 0.3);
  point("pointercancel", 0.3);
  point("pointermove", 0.5);
  point("pointerup", 0.5);
  see("cancelled");
  point("pointerdown", 0.4);
  point("pointerup", 0.4);
  see("clicked");
  point("pointerdown", 0.1, { isPrimary: false, pointerId: 7 });
  point("pointerup", 0.5, { isPrimary: false, pointerId: 7 });
  see("second finger");
  document.querySelector("#plot .bar").dispatchEvent(new PointerEvent("pointermove", { bubbles: true, isPrimary: true }));
  const tip = document.getElementById("tip");
  outcome.tip = tip.hidden ? "" : tip.textContent;
  const cell = document.querySelector(".heat tbody tr:last-child [data-cell]");
  if (cell) {
    outcome["listed before"] = all("#cell-findings tbody tr").length;
    cell.click();
    outcome.listed = all("#cell-findings tbody tr").length;
    outcome.chosen = document.getElementById("chosen").textContent;
    see("cell");
  }
  const filter = document.getElementById("filter");
  if (filter) {
    filter.value = "/ EVE";
    filter.dispatchEvent(new Event("input"));
    outcome.filtered = [all(".finding:not([hidden])").length, document.getElementById("shown").textContent];
  }
  const shown = document.createElement("pre");
  shown.id = "outcome";
  shown.textContent = JSON.stringify(outcome);
  document.body.append(shown);
})();

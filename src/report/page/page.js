"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  document.documentElement.classList.add("scripted");

  // Tooltip of the element under the pointer, or with the focus.
  const withTip = (target) => target.closest && target.closest("[data-tip]");
  const moveTip = (x, y) => {
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + "px";
  };
  const hide = () => { tip.hidden = true; };
  const show = (element, x, y) => {
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    moveTip(x, y);
  };
  document.querySelectorAll("[data-tip]").forEach((element) => {
    element.removeAttribute("title");
    element.querySelectorAll("title").forEach((title) => title.remove());
  });
  document.addEventListener("pointermove", (event) => {
    const element = withTip(event.target);
    if (element) show(element, event.clientX, event.clientY); else hide();
  });
  document.addEventListener("focusin", (event) => {
    const element = withTip(event.target);
    if (!element) return hide();
    const box = element.getBoundingClientRect();
    show(element, box.right, box.bottom);
  });
  document.addEventListener("focusout", hide);

  // Findings over time, of the selected cell and the selected time.
  const plot = document.getElementById("plot");
  const whole = document.getElementById("whole");
  const namespace = "http://www.w3.org/2000/svg";
  const [width, height, base] = [960, 200, 196];
  let line = data.present;
  let span = [0, data.bins.length];
  const make = (name, attributes) => {
    const element = document.createElementNS(namespace, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };
  const draw = () => {
    const counts = data.lines[line].counts.slice(span[0], span[1]);
    const bins = data.bins.slice(span[0], span[1]);
    const most = Math.max(1, ...counts);
    const step = width / Math.max(1, counts.length);
    const svg = plot.querySelector(".chart");
    const marks = most > 1 ? [most, Math.floor(most / 2)] : [most];
    const y = (count) => base - (base - 8) * count / most;
    svg.replaceChildren(
      make("line", { class: "axis", x1: 0, y1: base, x2: width, y2: base }),
      ...marks.map((count) => make("line", { class: "top", x1: 0, y1: y(count), x2: width, y2: y(count) })),
    );
    plot.querySelector(".scale").replaceChildren(...[...marks, 0].map((count) => {
      const text = make("text", { x: 54, y: y(count) });
      text.textContent = count;
      return text;
    }));
    counts.forEach((count, index) => {
      if (count === 0) return;
      const tall = base - y(count);
      const bar = make("rect", {
        class: "bar", x: index * step + step * 0.08, y: base - tall, width: step * 0.84, height: tall,
      });
      bar.dataset.tip = bins[index] + ": " + count + " " + data.thing + (count === 1 ? "" : "s");
      svg.append(bar);
    });
    const ticks = plot.querySelectorAll(".ticks span");
    [0, Math.floor(bins.length / 2), bins.length - 1].forEach((index, tick) => {
      ticks[tick].textContent = bins[index] || "";
    });
    whole.hidden = span[0] === 0 && span[1] === data.bins.length;
  };

  // Zoom: dragging selects a part of the time.
  const bin = (event) => {
    const box = plot.querySelector("svg").getBoundingClientRect();
    const share = Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
    return span[0] + Math.floor(share * (span[1] - span[0]));
  };
  let begin = null;
  let brush = null;
  const end = () => {
    begin = null;
    brush.remove();
  };
  plot.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    if (begin !== null) end();
    begin = bin(event);
    brush = make("rect", { class: "brush", y: 0, height, x: 0, width: 0 });
    plot.querySelector("svg").append(brush);
    event.preventDefault();
  });
  addEventListener("pointermove", (event) => {
    if (begin === null || !event.isPrimary) return;
    const step = width / (span[1] - span[0]);
    const [from, to] = [Math.min(begin, bin(event)), Math.max(begin, bin(event)) + 1];
    brush.setAttribute("x", (from - span[0]) * step);
    brush.setAttribute("width", (to - from) * step);
  });
  addEventListener("pointerup", (event) => {
    if (begin === null || !event.isPrimary) return;
    const [from, to] = [Math.min(begin, bin(event)), Math.max(begin, bin(event)) + 1];
    end();
    if (to - from > 1) span = [from, to];
    draw();
  });
  // The browser takes over the pointer, for example to scroll.
  addEventListener("pointercancel", (event) => {
    if (begin !== null && event.isPrimary) end();
  });
  whole.addEventListener("click", () => { span = [0, data.bins.length]; draw(); });

  // The first findings of the selected cell.
  const cellFindings = document.getElementById("cell-findings");
  const list = () => {
    if (!cellFindings) return;
    const { name, counts, found = [], options } = data.lines[line];
    const all = counts.reduce((sum, count) => sum + count, 0);
    cellFindings.querySelector(".legend").textContent =
      name + ": " + all + (all === 1 ? " finding" : " findings") + (all > found.length ? ", the first " + found.length : "") + ".";
    cellFindings.querySelector("table").hidden = found.length === 0;
    cellFindings.querySelector("tbody").replaceChildren(...found.map(([group, first, last, events]) => {
      const row = document.createElement("tr");
      [data.groups[group], events, first, last].forEach((value, index) => {
        const cell = row.insertCell();
        cell.textContent = value;
        if (index === 1) cell.className = "number";
      });
      return row;
    }));
    const more = cellFindings.querySelector(".more");
    more.hidden = !options || all === 0;
    more.querySelector("code").textContent = "tawny hunt DATA " + options;
  };

  // A cell of a heat table selects the line to draw.
  const choose = (cell) => {
    document.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
    cell.classList.add("chosen");
    line = Number(cell.dataset.cell);
    document.getElementById("chosen").textContent = data.lines[line].name + ", by " + data.bin + ".";
    draw();
    list();
  };
  document.querySelectorAll("[data-cell]").forEach((cell) => {
    cell.tabIndex = 0;
    cell.addEventListener("click", () => choose(cell));
    cell.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(cell); }
    });
  });
  draw();
  list();

  // Filter findings by text.
  const filter = document.getElementById("filter");
  if (filter) {
    const findings = [...document.querySelectorAll(".finding")];
    const texts = findings.map((finding) => finding.textContent.toLowerCase());
    const choices = ["severity", "rule", "account"].map((name) => document.getElementById(name)).filter(Boolean);
    const apply = () => {
      const wanted = filter.value.toLowerCase();
      let shown = 0;
      findings.forEach((finding, index) => {
        const isChosen = choices.every((choice) => !choice.value || finding.dataset[choice.id] === choice.value);
        finding.hidden = !isChosen || !texts[index].includes(wanted);
        shown += finding.hidden ? 0 : 1;
      });
      document.getElementById("shown").textContent = shown + " of " + findings.length;
    };
    filter.addEventListener("input", apply);
    choices.forEach((choice) => choice.addEventListener("input", apply));

    // Sort findings by a column, and in the other direction the second time.
    const table = document.querySelector("table.findings");
    const isNumber = { rank: true, count: true };
    const sort = (header) => {
      const key = header.dataset.sort;
      const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      table.querySelectorAll("[data-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const compare = (a, b) => isNumber[key] ? a - b : a < b ? -1 : a > b ? 1 : 0;
      [...findings]
        .sort((a, b) => direction * compare(a.dataset[key], b.dataset[key]) || compare(a.dataset.time, b.dataset.time))
        .forEach((finding) => table.append(finding));
    };
    table.querySelectorAll("[data-sort]").forEach((header) => {
      header.tabIndex = 0;
      header.addEventListener("click", () => sort(header));
      header.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(header); }
      });
    });
    // A click on a finding opens it.
    findings.forEach((finding) => finding.querySelector(".line").addEventListener("click", () => {
      if (getSelection().isCollapsed) finding.querySelector("details").toggleAttribute("open");
    }));
  }
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
  });
})();

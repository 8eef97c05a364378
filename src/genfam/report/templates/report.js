"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const fine = matchMedia("(pointer: fine)").matches;
  const themed = data("themed");

  // ---- charts: drawn when they come near the window, again when the theme turns, all of them before printing ----

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function draw(figure, printing = false) {
    const plot = one(".plot", figure);
    const night = dark.matches && !printing;
    const spec = JSON.parse(one("script", figure).textContent, (key, value) =>
      night && key === "color" && Object.hasOwn(themed, value) ? themed[value] : value);
    const ink = printing ? "#000" : style("--ink");
    const grid = printing ? "#ddd" : style("--grid");
    for (const axis of Object.keys(spec.layout).filter((key) => /^[xy]axis/.test(key))) {
      Object.assign(spec.layout[axis], { gridcolor: grid, zerolinecolor: grid, linecolor: grid, zeroline: false });
    }
    Object.assign(spec.layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      font: { color: ink, family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: style("--paper"), bordercolor: grid, font: { color: ink } },
      dragmode: fine ? "zoom" : false, // a finger scrolls the page
    });
    if (printing) Object.assign(spec.layout, { autosize: false, width: plot.clientWidth });
    figure.dataset.drawn = "yes";
    return Plotly.react(plot, spec.data, spec.layout, { displayModeBar: false, responsive: true, showTips: false });
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
    }
  }, { rootMargin: "400px" });
  const charts = all("figure.chart");
  charts.forEach((figure) => near.observe(figure));
  dark.addEventListener("change", () => charts.filter((figure) => figure.dataset.drawn).forEach((f) => draw(f)));
  const onPaper = (printing) => {
    document.documentElement.classList.toggle("onpaper", printing);
    charts.forEach((figure) => draw(figure, printing));
  };
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));
  for (const button of all("button.save")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      const plot = one(".plot", figure);
      Plotly.downloadImage(plot, {
        format: "svg", filename: figure.id, width: plot.clientWidth, height: plot.clientHeight,
      });
    });
  }

  // ---- one choice of a source for the whole page, and each table's own filters ----

  const chosen = one("#source");

  function filter(table) {
    const own = all(`[data-filters="${table.id}"] [data-key]`);
    let shown = 0;
    for (const row of all("tbody tr", table)) {
      const fits = (!chosen.value || row.dataset.source === chosen.value) && own.every((field) => {
        const wanted = field.value;
        if (wanted === "") return true;
        if (field.type === "search") return row.textContent.toLowerCase().includes(wanted.trim().toLowerCase());
        return field.dataset.key === "metric" && wanted === "*" ? row.dataset.leading === "yes"
          : row.dataset[field.dataset.key] === wanted.slice(1);
      });
      row.hidden = !fits;
      shown += fits;
    }
    const count = one(`[data-count="${table.id}"]`);
    if (count) count.textContent = `${shown} of ${all("tbody tr", table).length} rows`;
  }

  // ---- which family: of every source the last of its rows whose limits the reader's needs allow ----

  const needs = one("#needs");
  function choose() {
    if (!needs) return;
    const most = (field) => {
      const number = field.value.trim() === "" ? Infinity : Number(field.value);
      field.setCustomValidity(number > 0 ? "" : "a positive number, such as 1e-3");
      field.setAttribute("aria-invalid", String(!(number > 0)));
      return number > 0 ? number : Infinity;
    };
    const [flops, seconds] = [most(needs.flops), most(needs.seconds)];
    const last = new Map();
    for (const row of all("#choices tbody tr")) {
      row.hidden = true;
      const fits = row.dataset.likelihood === needs.likelihood.value && Number(row.dataset.flops) <= flops
        && Number(row.dataset.seconds) <= seconds;
      if (fits && (!chosen.value || row.dataset.of === chosen.value)) last.set(row.dataset.of, row);
    }
    last.forEach((row) => { row.hidden = false; });
    const largest = Math.max(0, ...[...last.values()].map((row) => Number(row.dataset.flops)));
    one("#far").hidden = !(Number.isFinite(flops) && largest > 0 && flops > Number(needs.dataset.far) * largest);
  }
  if (needs) {
    needs.addEventListener("input", choose);
    needs.addEventListener("submit", (event) => event.preventDefault()); // nothing is sent anywhere
  }

  const tables = all("table.filtered");
  function refresh() {
    all("[data-of]").forEach((part) => { part.hidden = Boolean(chosen.value) && part.dataset.of !== chosen.value; });
    choose();
    tables.forEach(filter);
  }
  chosen.addEventListener("change", refresh);
  for (const table of tables) {
    all(`[data-filters="${table.id}"] [data-key]`).forEach((field) =>
      field.addEventListener(field.type === "search" ? "input" : "change", () => filter(table)));
  }
  refresh();

  // ---- sorting: by a cell's number where it has one, empty cells last ----

  const words = new Intl.Collator(undefined, { numeric: true });
  for (const table of all("table.sorted")) {
    all("thead th", table).forEach((head, column) => {
      const button = one("button", head);
      if (!button) return;
      button.addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keys = new Map(all("tbody tr", table).map((row) => {
          const cell = row.cells[column];
          return [row, "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim()];
        }));
        const rows = [...keys.keys()].sort((a, b) => {
          const [x, y] = [keys.get(a), keys.get(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const [p, q] = [Number(x), Number(y)];
          return sign * (Number.isNaN(p) || Number.isNaN(q) ? words.compare(x, y) : p - q);
        });
        one("tbody", table).append(...rows);
      });
    });
  }

  // ---- definitions on hover and focus ----

  const tooltip = one("#tooltip");
  function show(button) {
    tooltip.textContent = button.dataset.tip;
    tooltip.hidden = false;
    const at = button.getBoundingClientRect();
    const size = tooltip.getBoundingClientRect();
    const below = at.bottom + 8 + size.height < innerHeight;
    tooltip.style.top = `${Math.max(4, below ? at.bottom + 6 : at.top - size.height - 6)}px`;
    tooltip.style.left = `${Math.max(4, Math.min(at.left, innerWidth - size.width - 8))}px`;
    button.setAttribute("aria-describedby", "tooltip");
  }
  function hide() {
    tooltip.hidden = true;
    all("[aria-describedby=tooltip]").forEach((button) => button.removeAttribute("aria-describedby"));
  }
  for (const type of ["mouseover", "focusin", "click"]) {
    document.addEventListener(type, (event) => {
      const button = event.target.closest?.(".tip");
      if (button) show(button);
      else if (type !== "focusin") hide();
    });
  }
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // ---- configurations and commands of runs ----

  const configurations = data("configurations");
  const dialog = one("#configuration");
  let name = "config";
  for (const button of all("button.configuration")) {
    button.addEventListener("click", () => {
      const row = button.closest("tr");
      name = row.dataset.run;
      one("h2", dialog).textContent = name;
      one("pre", dialog).textContent = row.dataset.head + configurations[Number(row.dataset.configuration)];
      dialog.showModal();
    });
  }
  one(".close", dialog).addEventListener("click", () => dialog.close());
  one(".keep", dialog).addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([one("pre", dialog).textContent], { type: "text/yaml" }));
    link.download = `${name}.yaml`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  for (const button of all("button.copy")) {
    button.addEventListener("click", async () => {
      const code = one("code", button.closest("td"));
      const before = button.textContent;
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch { // not allowed here: select it, so that the reader can copy
        getSelection().selectAllChildren(code);
        button.textContent = "selected";
      }
      setTimeout(() => { button.textContent = before; }, 1500);
    });
  }
  document.documentElement.dataset.ready = "yes";
})();

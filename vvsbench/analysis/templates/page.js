// Comforts, none of them needed to read the page: a theme switch, numbers under the pointer, one decoder picked out
// everywhere, tables in another order, links into folded parts, and two decoders' images laid over one another.
(function () {
  const root = document.documentElement, tip = document.getElementById("tip"), button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "light" : "dark"; };
  button.hidden = false;
  button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; name(); };
  name();

  function pick(key) {
    document.querySelectorAll("[data-key]").forEach(part => part.classList.toggle("dim", key !== null && part.dataset.key !== key));
  }
  function show(part, x, y) {
    const [first, ...rest] = part.dataset.tip.split("|");
    tip.textContent = "";
    tip.appendChild(Object.assign(document.createElement("b"), { textContent: first }));
    rest.forEach(line => tip.appendChild(Object.assign(document.createElement("div"), { textContent: line })));
    tip.style.display = "block";
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(8, y - tip.offsetHeight - 12) + "px";
  }
  document.querySelectorAll(".pt, svg text.name").forEach(part => {
    part.addEventListener("pointerenter", event => { pick(part.dataset.key); if (part.dataset.tip) show(part, event.clientX, event.clientY); });
    part.addEventListener("pointerleave", () => { pick(null); tip.style.display = "none"; });
    part.addEventListener("focus", () => { const box = part.getBoundingClientRect(); pick(part.dataset.key); if (part.dataset.tip) show(part, box.right, box.top); });
    part.addEventListener("blur", () => { pick(null); tip.style.display = "none"; });
  });

  // a heading sorts its table: first the largest, then the smallest, then as it was
  const value = cell => { const text = cell.firstChild ? cell.textContent : "", found = text.replace(/[\u2009\u00a0▲▼+]/g, "").replace("\u2212", "-"); const number = parseFloat(found); return Number.isNaN(number) ? null : number; };
  document.querySelectorAll("table").forEach(table => {
    const body = table.tBodies[0], rows = [...body.rows];
    if (rows.length < 4) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.tabIndex = 0;
      head.classList.add("sorts");
      const sort = () => {
        const next = { none: "descending", descending: "ascending", ascending: "none" }[head.getAttribute("aria-sort") || "none"];
        [...table.tHead.rows[0].cells].forEach(other => other.removeAttribute("aria-sort"));
        if (next !== "none") head.setAttribute("aria-sort", next);
        const turn = next === "ascending" ? 1 : -1;
        const keyed = rows.map(row => [column ? value(row.cells[column]) : row.cells[0].textContent, row]);
        const order = (one, other) => one === null ? 1 : other === null ? -1 : turn * (typeof one === "string" ? -one.localeCompare(other, "en", { numeric: true }) : one - other);
        (next === "none" ? rows : keyed.sort((a, b) => order(a[0], b[0])).map(pair => pair[1])).forEach(row => body.appendChild(row));
      };
      head.onclick = sort;
      head.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } };
    });
  });

  // a link to something inside a folded part unfolds it
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  // two decoders' images over one another: the left one up to the seam, which follows a slider or the pointer
  document.querySelectorAll(".images").forEach(section => {
    const viewer = section.querySelector(".viewer"), indices = viewer.dataset.indices.split(" ");
    const names = [...section.querySelectorAll(".who .name")].map(name => name.textContent);
    const images = [...section.querySelectorAll(".gallery img")], asked = [...section.querySelector(".gallery").querySelectorAll(".ask")];
    if (names.length < 2) return;
    const make = (tag, facts, parent) => parent.appendChild(Object.assign(document.createElement(tag), facts));
    const stage = make("div", { className: "stage" }, viewer), controls = make("div", { className: "controls" }, viewer);
    const right = make("img", { className: "right" }, stage), left = make("img", { className: "left" }, stage);
    const told = make("output", { className: "told" }, controls);
    const control = (title, tag, facts) => { const label = make("label", { textContent: title }, controls), made = make(tag, facts, controls); label.htmlFor = made.id = `${section.id}-${title}`; return made; };
    const one = control("left", "select", {}), other = control("right", "select", {});
    [one, other].forEach(select => names.forEach((name, number) => make("option", { textContent: name, value: number }, select)));
    const index = control("image", "input", { type: "range", min: 0, max: indices.length - 1, value: 0 });
    const seam = control("seam", "input", { type: "range", min: 0, max: 100, value: 50 });
    const show = () => {
      [[left, one], [right, other]].forEach(([image, select]) => { const found = images[select.value * indices.length + +index.value]; image.src = found.src; image.alt = found.alt; });
      const same = left.src === right.src ? ": the same picture" : "";
      told.textContent = `image ${indices[index.value]}, ${asked[index.value].textContent || "no prompt"}${same}`;
      index.setAttribute("aria-valuetext", told.textContent);
      stage.style.setProperty("--cut", seam.value + "%");
    };
    const follow = event => { const box = stage.getBoundingClientRect(); seam.value = 100 * (event.clientX - box.left) / box.width; show(); };
    other.value = Math.max(1, names.findIndex((_, number) => images[number * indices.length].src !== images[0].src));
    [one, other, index, seam].forEach(part => part.addEventListener("input", show));
    stage.addEventListener("pointermove", follow);
    stage.addEventListener("pointerdown", follow);
    images.forEach((image, place) => image.addEventListener("click", () => { other.value = Math.floor(place / indices.length); index.value = place % indices.length; show(); viewer.scrollIntoView({ block: "center", behavior: "smooth" }); }));
    viewer.hidden = false;
    show();
  });
})();

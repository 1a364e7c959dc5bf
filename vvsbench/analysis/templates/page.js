// Three comforts, none of them needed to read the page: a theme switch, numbers under the pointer, and one decoder picked out everywhere.
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
})();

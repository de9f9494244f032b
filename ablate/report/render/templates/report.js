
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const first = table.tBodies[0].rows[0];
  for (const head of table.tHead.rows[0].cells) // align a heading with the numbers below it
    head.classList.toggle("n", !!first && first.cells[head.cellIndex].classList.contains("n"));
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column], value = cell.dataset.v;
      return value === undefined ? cell.textContent : value === "" ? null : Number(value);
    };
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null); // missing values stay last
      const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  });
}
for (const field of document.querySelectorAll("input[data-for]")) {
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelectorAll("#" + field.dataset.for + " tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
const unfold = () => {
  const section = location.hash && document.getElementById(location.hash.slice(1));
  if (section && section.tagName === "DETAILS") section.open = true;
};
addEventListener("hashchange", unfold);
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(unfold)); // a click on the current hash fires no hashchange
addEventListener("beforeprint", () => { for (const section of document.querySelectorAll("details.rest")) section.open = true; });
const all = (selector) => [...document.querySelectorAll(selector)];

// Show a title's text on touch and keyboard focus too, not only on hover.
const tip = Object.assign(document.createElement("div"), { id: "tip", role: "tooltip", hidden: true });
document.body.append(tip);
for (const part of all("[title]")) {
  part.dataset.tip = part.title;
  part.removeAttribute("title");
}
let explained = null;
const explain = (part) => {
  explained = part;
  tip.hidden = !part;
  if (!part) return;
  tip.textContent = part.dataset.tip;
  part.setAttribute("aria-describedby", "tip");
  const at = part.getBoundingClientRect(), below = at.bottom + 6, right = innerWidth - tip.offsetWidth - 8;
  tip.style.left = Math.max(8, Math.min(at.left, right)) + "px";
  tip.style.top = (below + tip.offsetHeight > innerHeight ? at.top - tip.offsetHeight - 6 : below) + "px";
};
for (const kind of ["mouseover", "focusin", "click"])
  document.addEventListener(kind, (event) => explain(event.target.closest("[data-tip]")));
addEventListener("keydown", (event) => { if (event.key === "Escape") explain(null); });
addEventListener("scroll", () => explain(explained), { passive: true, capture: true });

// A reload keeps what is open, filtered and sorted, and where the page is scrolled to.
const place = (part) => (part.parentElement.closest("[id]") || document.body).id;
const title = (details) => details.id || place(details) + ": " + details.firstElementChild.textContent;
const heading = (head) => place(head) + ": " + head.textContent;
const key = "ablate " + location.pathname;
addEventListener("pagehide", () => {
  const kept = {
    y: scrollY,
    open: Object.fromEntries(all("details").map((details) => [title(details), details.open])),
    typed: Object.fromEntries(all("input[data-for]").map((field) => [field.dataset.for, field.value])),
    sorted: Object.fromEntries(all("th[aria-sort]").map((head) => [heading(head), head.getAttribute("aria-sort")])),
  };
  try { sessionStorage.setItem(key, JSON.stringify(kept)); } catch { /* a browser may not allow it */ }
});
let kept = null;
try { kept = JSON.parse(sessionStorage.getItem(key)); } catch { /* it may not allow that either */ }
if (kept) {
  for (const details of all("details")) details.open = kept.open[title(details)] ?? details.open;
  for (const field of all("input[data-for]")) {
    field.value = kept.typed[field.dataset.for] ?? "";
    field.dispatchEvent(new Event("input"));
  }
  for (const head of all("th")) {
    const order = kept.sorted[heading(head)];
    if (order) head.firstElementChild.click();
    if (order === "descending") head.firstElementChild.click();
  }
  // Scroll only when the pictures have been laid out, since they change the page's height.
  addEventListener("load", () => scrollTo(0, kept.y));
} else unfold();

const live = document.getElementById("live");
if (live) {
  const { every, written } = live.dataset;
  document.getElementById("stale").hidden = Date.now() / 1000 - written < 4 * every + 60;
  const busy = () => document.hidden || String(getSelection()) || document.activeElement.matches("input");
  const reload = () => (busy() ? setTimeout(reload, 1000) : location.reload());
  setTimeout(reload, 1000 * every);
}

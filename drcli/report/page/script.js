"use strict";

// Tables: a heading sorts its column, first down for numbers and up for text; absent values stay last.
function compare(left, right, isNumber) {
  return isNumber ? Number(left) - Number(right) : left.localeCompare(right, undefined, { numeric: true });
}

function sortBy(header) {
  const table = header.closest("table");
  const body = table.tBodies[0];
  const place = header.cellIndex;
  const isNumber = header.classList.contains("number");
  const before = header.getAttribute("aria-sort");
  const down = before === "none" ? isNumber : before === "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.cells[place].dataset.key;
  const rows = [...body.rows].sort((first, second) => {
    const absent = (key(first) === "") - (key(second) === "");
    return absent || (down ? -1 : 1) * compare(key(first), key(second), isNumber);
  });
  body.append(...rows);
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

// Light and dark: the system's scheme until the button is pressed; nothing is stored. Old browsers have no dark page.
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function nameTheme() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Change to the ${isDark() ? "light" : "dark"} page`);
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
system.addEventListener("change", nameTheme);
theme.hidden = !CSS.supports("color", "light-dark(red, red)");
nameTheme();

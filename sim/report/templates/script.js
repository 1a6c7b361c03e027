"use strict";
// The panels of a choice are shown one at a time; without this script all of them are.
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector("select");
  const panels = [...choice.children].filter((child) => child.classList.contains("panel"));
  const show = () => panels.forEach((panel, number) => { panel.hidden = number !== Number(select.value); });
  select.addEventListener("change", show);
  choice.classList.add("live");
  show();
}
for (const box of document.querySelectorAll("input[data-hides]")) {
  const lines = box.closest("figure").querySelectorAll("svg ." + box.dataset.hides);
  const show = () => lines.forEach((line) => { line.style.display = box.checked ? "" : "none"; });
  box.addEventListener("change", show);
  show();
}

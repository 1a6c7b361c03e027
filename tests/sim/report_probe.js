// Run inside a copy of the page, after its own script: uses what is interactive, and looks at it as axe would.
const failed = [];
const expect = (ok, what) => { if (!ok) failed.push(what); };
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector("select");
  const panels = [...choice.children].filter((child) => child.classList.contains("panel"));
  for (let number = 0; number < panels.length; number++) {
    select.value = String(number);
    select.dispatchEvent(new Event("change"));
    expect(panels.every((panel, index) => (panel.offsetHeight > 0) === (index === number)), "choice shows " + number);
  }
}
for (const box of document.querySelectorAll("input[data-hides]")) {
  const lines = [...box.closest("figure").querySelectorAll("svg ." + box.dataset.hides)];
  const display = () => lines.map((line) => getComputedStyle(line).display);
  expect(lines.length > 0, "lines of " + box.dataset.hides);
  box.click();
  expect(display().every((value) => value === "none"), "a line can be hidden");
  box.click();
  expect(display().every((value) => value !== "none"), "a line comes back");
}
const counts = { choices: document.querySelectorAll(".choice").length, boxes: document.querySelectorAll("input[data-hides]").length };
expect(performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length === 0, "nothing is loaded");
expect(document.documentElement.scrollWidth <= window.innerWidth, "no sideways scrolling of the page");
expect(document.documentElement.lang && document.title, "language and title");
for (const control of document.querySelectorAll("select, input")) expect(control.labels.length > 0, "control has a label");
let level = 0;
for (const head of document.querySelectorAll("h1, h2, h3")) {
  const now = Number(head.tagName[1]);
  expect(now <= level + 1, "heads do not skip a level");
  level = now;
}
for (const link of document.querySelectorAll("a")) expect(document.querySelector(link.getAttribute("href")), "link has a target");
// Contrast of every text with what is behind it, WCAG 2.2 AA.
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
for (const details of document.querySelectorAll("details")) details.open = true;
for (const element of document.querySelectorAll("p, th, td, caption, a, label, summary, code, h1, h2, figcaption, svg text:not(.on-dark)")) {
  const style = getComputedStyle(element);
  const ink = numbers(element.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
  expect((a + 0.05) / (b + 0.05) >= 4.5, "contrast of <" + element.tagName + "> " + element.textContent.slice(0, 30));
}
document.body.setAttribute("data-probe", JSON.stringify({ failed, errors: window.pageErrors, ...counts }));

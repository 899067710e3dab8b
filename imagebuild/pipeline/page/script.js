"use strict";
// What is nicer with scripts: a search in lists of packages, all images at once, and the
// newest nights in sight.
(() => {
  for (const matrix of document.querySelectorAll(".matrix")) {
    matrix.parentElement.scrollLeft = matrix.scrollWidth;
  }
  const make = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  for (const section of document.querySelectorAll(".packages")) {
    const sheets = [...section.querySelectorAll("details")];
    if (!sheets.length) continue;
    const opened = sheets.map((sheet) => sheet.open);
    const input = make("input", { type: "search", placeholder: "name or version" });
    const found = make("output", {});
    const label = make("label", { className: "find" }, "Search ", input, " ", found);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let count = 0;
      sheets.forEach((sheet, number) => {
        let here = 0;
        for (const row of sheet.querySelectorAll("tbody tr")) {
          row.hidden = !row.textContent.toLowerCase().includes(wanted);
          here += !row.hidden;
        }
        sheet.open = wanted ? here > 0 : opened[number];
        count += here;
      });
      found.textContent = wanted ? `${count} found` : "";
    });
    section.querySelector("h4").after(label);
  }
  const images = [...document.querySelectorAll("#images > details")];
  if (images.length > 1) {
    const button = make("button", { type: "button" });
    const say = () => {
      button.textContent = images.every((i) => i.open) ? "Fold all" : "Unfold all";
    };
    button.addEventListener("click", () => {
      const open = !images.every((i) => i.open);
      images.forEach((i) => (i.open = open));
    });
    images.forEach((i) => i.addEventListener("toggle", say));
    say();
    document.querySelector("#images > h2").append(" ", button);
  }
})();

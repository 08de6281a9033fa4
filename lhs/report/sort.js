for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const value = (row) => {
        const cell = row.cells[head.cellIndex];
        return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
      };
      const rows = [...table.tBodies[0].rows];
      const before = head.getAttribute("aria-sort");
      const numbers = rows.some((row) => typeof value(row) === "number");
      const up = before ? before === "descending" : !numbers;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort((a, b) => {
        const [one, two] = [value(a), value(b)];
        if (!numbers) return (up ? 1 : -1) * one.localeCompare(two, undefined, { numeric: true });
        if (Number.isNaN(one) || Number.isNaN(two)) return Number.isNaN(one) - Number.isNaN(two);
        return up ? one - two : two - one;
      });
      table.tBodies[0].append(...rows);
    });
  }
}

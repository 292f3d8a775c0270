// Text tables and the units in them.

/** Prints rows of text under a heading; columns of numbers are flush right, the last is not padded. */
export function printTable(heading, rows) {
  const widths = heading.map((_, column) =>
    Math.max(...[heading, ...rows].map((row) => (row[column] ?? '').length)),
  );
  const isNumber = heading.map((_, column) =>
    rows.every((row) => /^(-|[\d.]+ .*)$/.test(row[column] ?? '')),
  );
  for (const row of [heading, ...rows]) {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return isNumber[column] && column > 0 ? cell.padStart(width) : cell.padEnd(width);
    });
    console.log(cells.join('  ').trimEnd());
  }
}

/** Bytes as MiB. */
export function mebibytes(bytes) {
  const value = bytes / 2 ** 20;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} MiB`;
}

export function seconds(value) {
  return `${value.toFixed(2)} s`;
}

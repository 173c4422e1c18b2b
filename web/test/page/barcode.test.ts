import { expect, test } from "vitest";

import { cells, numberOf, NUMBERS, scan } from "../../src/picture/barcode";

/** A row of grey pixels as a canvas gives it (RGBA), with cells `cellPixels` wide. */
function pixels(row: readonly boolean[], cellPixels: number, black = 0, white = 255): number[] {
  return row.flatMap((cell) => Array.from({ length: cellPixels }, () => [cell ? white : black, cell ? white : black, cell ? white : black, 255]).flat());
}

test("every frame number is read back from its cells", () => {
  const wrong = Array.from({ length: NUMBERS }, (_, number) => number).filter((number) => numberOf(cells(number)) !== number);
  expect(wrong).toEqual([]);
});

test("numbers begin anew after the last", () => {
  expect(numberOf(cells(NUMBERS + 7))).toBe(7);
});

test("one wrong cell is never taken for another number", () => {
  for (const number of [0, 1, 0x1234, 0x8000, NUMBERS - 1]) {
    const row = cells(number);
    row.forEach((_, at) => {
      const wrong = row.map((cell, index) => (index === at ? !cell : cell));
      expect(numberOf(wrong)).toBeNull();
    });
  }
});

test("a row of one colour, and one of another length, hold no number", () => {
  expect(numberOf(cells(5).map(() => true))).toBeNull();
  expect(numberOf(cells(5).map(() => false))).toBeNull();
  expect(numberOf(cells(5).slice(1))).toBeNull();
  expect(scan(pixels(cells(5).map(() => true), 8), 24 * 8)).toBeNull();
});

test.each([4, 13, 27])("cells of %i pixels are found, also in the narrow range of a video's black and white", (cellPixels) => {
  const row = cells(0xa5c3);
  expect(numberOf(scan(pixels(row, cellPixels, 18, 233), row.length * cellPixels) ?? [])).toBe(0xa5c3);
});

test("a blurred picture is read", () => {
  const row = cells(0x5a3c);
  const sharp = pixels(row, 12);
  const blurred = sharp.map((_, at) => {
    const around = [-3, -2, -1, 0, 1, 2, 3].map((step) => sharp[at + step * 4] ?? sharp[at] ?? 0);
    return around.reduce((sum, value) => sum + value, 0) / around.length;
  });
  expect(numberOf(scan(blurred, row.length * 12) ?? [])).toBe(0x5a3c);
});

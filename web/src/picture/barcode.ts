/**
 * A frame number as a bar code: a row of black and white cells that survives a codec and a change of size.
 *
 * A white and a black cell, 16 bits of the number, 4 bits of check, a white and a black cell; high bits first. White is 1.
 */

/** Bits of a frame number; it starts again at 0 after the last. At 30 frames a second that is after 36 minutes. */
const NUMBER_BITS = 16;
/** Bits that tell a number from noise. */
const CHECK_BITS = 4;
/** Numbers are below this. */
export const NUMBERS = 2 ** NUMBER_BITS;

/** The cells of a number, from left to right; `true` is white. */
export function cells(number: number): boolean[] {
  const wrapped = number % NUMBERS;
  return [true, false, ...bitsOf(wrapped, NUMBER_BITS), ...bitsOf(check(wrapped), CHECK_BITS), true, false];
}

/** Reads cells back; `null` if they are not those of a number. */
export function numberOf(row: readonly boolean[]): number | null {
  if (row.length !== NUMBER_BITS + CHECK_BITS + 4) return null;
  const end = row.length - 2;
  if (!row[0] || row[1] || !row[end] || row[end + 1]) return null;
  const number = valueOf(row.slice(2, 2 + NUMBER_BITS));
  return valueOf(row.slice(2 + NUMBER_BITS, end)) === check(number) ? number : null;
}

/** The four nibbles, each turned by its place, so that neighbours swapped or a constant row do not pass. */
function check(number: number): number {
  let sum = 0b1010;
  for (let shift = 0; shift < NUMBER_BITS; shift += CHECK_BITS) sum = (sum * 3 + ((number >> shift) & 0xf)) & 0xf;
  return sum;
}

function bitsOf(value: number, width: number): boolean[] {
  return Array.from({ length: width }, (_, index) => ((value >> (width - 1 - index)) & 1) === 1);
}

function valueOf(row: readonly boolean[]): number {
  return row.reduce((value, bit) => value * 2 + (bit ? 1 : 0), 0);
}

/** The cells in a row of pixels (RGBA), by the green of each cell's middle; `null` where black and white are not apart. */
export function scan(pixels: ArrayLike<number>, widthPixels: number): boolean[] | null {
  const total = NUMBER_BITS + CHECK_BITS + 4;
  const cellPixels = widthPixels / total;
  const green = Array.from({ length: total }, (_, cell) => {
    const from = Math.floor((cell + 0.3) * cellPixels);
    const to = Math.max(from + 1, Math.ceil((cell + 0.7) * cellPixels));
    let sum = 0;
    for (let pixel = from; pixel < to; pixel += 1) sum += pixels[pixel * 4 + 1] ?? 0;
    return sum / (to - from);
  });
  const [white = 0, black = 0] = green;
  if (white - black < 64) return null;
  const middle = (white + black) / 2;
  return green.map((value) => value > middle);
}

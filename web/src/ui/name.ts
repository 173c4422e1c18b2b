/** A name for a visitor who has none yet. */

const COLOURS = ["amber", "birch", "coral", "fern", "hazel", "ivory", "jade", "olive", "pearl", "slate"];
const ANIMALS = ["crane", "finch", "heron", "ibis", "lark", "otter", "robin", "stork", "swift", "wren"];

/** Name of the name in the tab's storage: a page loaded again is the same user. */
const STORED = "waystation-user";

/** Numbers behind the words: two visitors with one name would throw each other out. */
const NUMBERS = 100;

/** A name by a number from 0 to 1. */
export function madeUp(random: number): string {
  const names = COLOURS.length * ANIMALS.length * NUMBERS;
  const index = Math.min(Math.floor(random * names), names - 1);
  const words = Math.floor(index / NUMBERS);
  return `${COLOURS[Math.floor(words / ANIMALS.length)] ?? ""}-${ANIMALS[words % ANIMALS.length] ?? ""}-${index % NUMBERS}`;
}

/** This tab's name. */
export function visitor(): string {
  const there = sessionStorage.getItem(STORED);
  if (there !== null) return there;
  const name = madeUp(Math.random());
  sessionStorage.setItem(STORED, name);
  return name;
}

/** A name for a visitor who has none yet. */

const COLOURS = ["amber", "birch", "coral", "fern", "hazel", "ivory", "jade", "olive", "pearl", "slate"];
const ANIMALS = ["crane", "finch", "heron", "ibis", "lark", "otter", "robin", "stork", "swift", "wren"];

/** Name of the name in the tab's storage: a page loaded again is the same user. */
const STORED = "waystation-user";

/** A name by a number from 0 to 1. */
export function madeUp(random: number): string {
  const index = Math.min(Math.floor(random * COLOURS.length * ANIMALS.length), COLOURS.length * ANIMALS.length - 1);
  return `${COLOURS[Math.floor(index / ANIMALS.length)] ?? ""}-${ANIMALS[index % ANIMALS.length] ?? ""}`;
}

/** This tab's name. */
export function visitor(): string {
  const there = sessionStorage.getItem(STORED);
  if (there !== null) return there;
  const name = madeUp(Math.random());
  sessionStorage.setItem(STORED, name);
  return name;
}

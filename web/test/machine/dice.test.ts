/** Jitter: the same seed draws the same as in every other SDK. */

import { expect, test } from "vitest";

import { backoffWait, Dice } from "../../src/sdk/machine/backoff";

test.each([
  // First outputs of the algorithm, https://prng.di.unimi.it/splitmix64.c
  { seed: 0n, expected: [0xe220_a839_7b1d_cdafn, 0x6e78_9e6a_a1b9_65f4n, 0x06c4_5d18_8009_454fn] },
  { seed: 1n, expected: [0x910a_2dec_8902_5cc1n, 0xbeeb_8da1_658e_ec67n, 0xf893_a2ee_fb32_555en] },
  { seed: 1_234_567n, expected: [0x599e_d017_fb08_fc85n, 0x2c73_f084_5854_0fa5n, 0x883e_bce5_a3f2_7c77n] },
  { seed: (1n << 64n) - 1n, expected: [0xe4d9_7177_1b65_2c20n, 0xe99f_f867_dbf6_82c9n, 0x382f_f84c_b272_81e9n] },
])("dice of seed $seed roll what SplitMix64 says", ({ seed, expected }) => {
  const dice = new Dice(seed);
  expect(expected.map(() => dice.roll())).toEqual(expected);
});

test("a draw is a whole millisecond from the low end to below the high one", () => {
  const dice = new Dice(7n);
  const draws = Array.from({ length: 500 }, () => dice.between(10, 14.9));
  expect([...new Set(draws)].sort()).toEqual([10, 11, 12, 13]);
});

test("an empty range gives its low end, and rolls the dice all the same", () => {
  const [drawn, rolled] = [new Dice(3n), new Dice(3n)];
  expect(drawn.between(5, 5)).toBe(5);
  expect(drawn.between(9, 2)).toBe(9);
  rolled.roll();
  rolled.roll();
  expect(drawn.roll()).toBe(rolled.roll());
});

test("waits double within their jitter and stop at the longest", () => {
  const rounds = [[0, 100], [1, 200], [2, 400], [3, 500], [31, 500], [32, 500], [4_000, 500]] as const;
  for (let seed = 0n; seed < 200n; seed += 1n) {
    const dice = new Dice(seed);
    for (const [round, upper] of rounds) {
      const wait = backoffWait({ first: 100, longest: 500 }, round, dice);
      expect(wait).toBeGreaterThanOrEqual(upper / 2);
      expect(wait).toBeLessThan(upper);
    }
  }
});

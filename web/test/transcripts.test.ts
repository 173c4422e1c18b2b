/** Drives the machines with the transcripts that drive those of the Rust client; their README says how to read them. */

import { expect, test } from "vitest";

import { Client, type Input, type Settings } from "../src/sdk/machine";
import { number, parse } from "./transcripts/words/read";
import { show } from "./transcripts/words/write";

/** From one beat of a node to the next. */
const BEAT_MS = 50;

/** Transcripts that there are at least: fewer say that they were not found. */
const FEWEST = 46;

const files = import.meta.glob<string>("../../client/tests/transcripts/*.txt", {
  query: "?raw", import: "default", eager: true,
});

class Run {
  readonly #client: Client;
  readonly #lines: string[] = [];
  #now = 0;

  constructor(settings: Settings) {
    this.#client = new Client(settings);
  }

  text(): string {
    return `${this.#lines.join("\n")}\n`;
  }

  write(line: string): void {
    this.#lines.push(line);
  }

  handle(input: Input): void {
    this.#client.handle(input, this.#now);
    for (let output = this.#client.pollOutput(); output !== undefined; output = this.#client.pollOutput()) {
      this.write(`  ${this.#now} ${show(output)}`);
    }
  }

  /** Jumps from one wish of the machine to the next. */
  advance(to: number): void {
    const MAX_JUMPS = 100_000;
    for (let jumps = 0; jumps < MAX_JUMPS; jumps += 1) {
      const due = this.#client.pollTimeout();
      if (due === undefined || due > to) {
        this.#now = to;
        return;
      }
      this.#now = Math.max(this.#now, Math.ceil(due));
      this.handle({ kind: "timeout" });
    }
    throw new Error(`the machine asks for the same time again and again\n${this.text()}`);
  }

  input(at: number, words: readonly string[]): void {
    const [what, first = "", second = ""] = words;
    switch (what) {
      case "wait":
        break;
      case "first":
        // It stood still: nobody has told it of the time.
        this.#now = at;
        return this.input(at, words.slice(1));
      case "late":
        this.#now += number(first);
        this.handle({ kind: "timeout" });
        break;
      case "beats":
        for (let ms = at; ms <= number(second); ms += BEAT_MS) {
          this.advance(ms);
          this.handle({ kind: "heard", attempt: number(first), at: ms });
        }
        break;
      default: {
        const input = parse(words, at);
        if (input === undefined) throw new Error(`unknown input: ${words.join(" ")}`);
        this.handle(input);
      }
    }
  }
}

function setting(settings: Settings, key: string, value: string): Settings {
  switch (key) {
    case "seed": return { ...settings, seed: BigInt(value) };
    case "coordinators": return { ...settings, coordinators: value.split(",") };
    case "room_retry_s": return { ...settings, roomRetryTime: number(value) * 1_000 };
    case "av_retry_s": return { ...settings, avRetryTime: number(value) * 1_000 };
    case "max_rooms": return { ...settings, maxRooms: number(value) };
    case "hedging":
      if (value === "on" || value === "off") return { ...settings, hedging: value };
  }
  throw new Error(`unknown setting ${key} ${value}`);
}

function run(file: string): string {
  const lines = file.split("\n").slice(0, -1).map((line) => line.trimEnd()).filter((line) => !line.startsWith("  "));
  const defaults: Settings = {
    coordinators: ["http://c1", "http://c2"],
    seed: 1n,
    roomRetryTime: 1_200_000,
    avRetryTime: 300_000,
    maxRooms: 5,
    hedging: "on",
  };
  const settings = lines.reduce((settings, line) => {
    const [word, key = "", value = ""] = line.split(" ");
    return word === "set" ? setting(settings, key, value) : settings;
  }, defaults);
  const run = new Run(settings);
  for (const line of lines) {
    const [, at, words] = /^@(\d+) (.*)$/.exec(line) ?? [];
    if (at === undefined || words === undefined) {
      run.write(line);
      continue;
    }
    if (!words.startsWith("first ")) run.advance(number(at));
    run.write(line);
    run.input(number(at), words.split(/\s+/));
  }
  return run.text();
}

test("every transcript is found and names the clauses that it proves", () => {
  expect(Object.keys(files).length).toBeGreaterThanOrEqual(FEWEST);
  for (const [path, text] of Object.entries(files)) expect(text, path).toMatch(/^# .*[A-Z]+-\d+/);
});

for (const [path, wanted] of Object.entries(files)) {
  test(`the machines say what ${path.split("/").at(-1)} says`, () => {
    expect(run(wanted)).toBe(wanted);
  });
}

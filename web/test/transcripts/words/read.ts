/** Reads the inputs of the transcripts. */

import {
  errorCode, firstClaim,
  type Answer, type CallFailure, type Claim, type Delta, type Failure, type Input, type Instant, type Node, type NodeRef,
  type Phase, type Plan, type Revision, type StreamEntry, type StreamKey, type Told, type UserEntry,
} from "../../../src/sdk/machine";

/** A line's words. One that is missing is an error of the transcript. */
class Words {
  readonly #words: readonly string[];

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  at(place: number): string {
    const word = this.#words[place];
    if (word === undefined) throw new Error(`a word is missing: ${this.#words.join(" ")}`);
    return word;
  }

  number(place: number): number {
    return number(this.at(place));
  }

  from(place: number): readonly string[] {
    return this.#words.slice(place);
  }

  get length(): number {
    return this.#words.length;
  }
}

/** A whole number. */
export function number(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`no number: ${text}`);
  return Number(text);
}

function parts(text: string, separator: string, count: number): Words {
  const found = text.split(separator);
  if (found.length !== count) throw new Error(`not ${count} parts: ${text}`);
  return new Words(found);
}

function key(text: string): StreamKey {
  const found = parts(text, "/", 2);
  return { room: found.at(0), stream: found.at(1) };
}

function nodeRef(text: string): NodeRef {
  const [id = "", incarnation = "1"] = text.split("#");
  return { id, incarnation: BigInt(incarnation) };
}

function node(text: string): Node {
  const ref = nodeRef(text.replace(/!$/, ""));
  const health = text.endsWith("!") ? "suspect" : "healthy";
  return { node: ref, httpUrl: `http://${ref.id}`, region: "", health };
}

function revision(text: string): Revision {
  const found = parts(text, ":", 2);
  return { storeId: found.at(0), number: BigInt(found.at(1)) };
}

function user(text: string): UserEntry {
  const found = parts(text, ":", 2);
  return { user: found.at(0), session: found.at(1) };
}

function stream(text: string): StreamEntry {
  const found = parts(text, ":", 4);
  return { stream: found.at(0), user: found.at(1), session: found.at(2), epoch: BigInt(found.at(3)) };
}

function claim(text: string): Claim {
  const found = parts(text, ".", 2);
  return { ...firstClaim(BigInt(found.at(0))), moved: found.number(1) };
}

function callFailure(text: string): CallFailure {
  switch (text) {
    case "notconnected": return { kind: "notConnected" };
    case "failed": return { kind: "failed" };
    default: {
      const code = errorCode(number(text));
      if (code === undefined) throw new Error(`unknown code ${text}`);
      return { kind: "refused", code };
    }
  }
}

function answer<T>(text: string, value: () => T): Answer<T> {
  return text === "ok" ? { kind: "ok", value: value() } : { kind: "error", failure: callFailure(text) };
}

function list<T>(words: readonly string[], prefix: string, entry: (text: string) => T): readonly T[] {
  const all = value(words, prefix) ?? "";
  return all.split(",").filter((text) => text !== "").map(entry);
}

function value(words: readonly string[], prefix: string): string | undefined {
  return words.find((word) => word.startsWith(prefix))?.slice(prefix.length);
}

function deltas(words: readonly string[]): readonly Delta[] {
  const pairs = Array.from({ length: words.length / 2 }, (_, i) => new Words(words.slice(2 * i, 2 * i + 2)));
  return pairs.map((pair): Delta => {
    switch (pair.at(0)) {
      case "+user": return { kind: "userAdded", user: user(pair.at(1)) };
      case "-user": return { kind: "userDeleted", user: user(pair.at(1)) };
      case "+stream": return { kind: "streamAdded", stream: stream(pair.at(1)) };
      case "-stream": return { kind: "streamDeleted", stream: stream(pair.at(1)) };
      default: throw new Error(`unknown delta ${pair.at(0)}`);
    }
  });
}

const FAILURES: Readonly<Record<string, Failure>> = {
  unreachable: { kind: "unreachable", detail: "connection refused" },
  timedout: { kind: "timedOut" },
  nothere: { kind: "notHere" },
  loginended: { kind: "loginEnded", detail: "kicked" },
  higherclaim: { kind: "higherClaim" },
  tokenrefused: { kind: "tokenRefused", detail: "expired" },
  refused: { kind: "refused", detail: "full" },
  down: { kind: "down" },
  closed: { kind: "closed", detail: "by the node" },
};

const PHASES: Readonly<Record<string, Phase>> = {
  connecting: "connecting",
  idle: "idle",
  flowing: "flowing",
  originlost: "originLost",
  standby: "standby",
};

const LOSSES = { refused: "refused", noanswer: "noAnswer", broken: "broken" } as const;

function named<T>(table: Readonly<Record<string, T>>, word: string): T {
  const found = table[word];
  if (found === undefined) throw new Error(`unknown word ${word}`);
  return found;
}

function plan(words: readonly string[]): Plan {
  const claimed = value(words, "claim=");
  return {
    claim: claimed === undefined ? undefined : claim(claimed),
    nodeToken: "node-token",
    tokenValid: number(value(words, "valid=") ?? "3600000"),
    nodes: words.filter((word) => !word.includes("=")).map(node),
  };
}

/** An input; `undefined` if the words are unknown. */
export function parse(line: readonly string[], now: Instant): Input | undefined {
  const words = new Words(line);
  return app(words) ?? session(words, now) ?? coordinator(words);
}

function app(words: Words): Input | undefined {
  switch (words.at(0)) {
    case "login": {
      const room = words.at(1);
      const notifyUsers = words.from(3).includes("notify");
      return { kind: "login", room, userToken: words.at(2), loginId: `login-${room}`, notifyUsers };
    }
    case "logout": return { kind: "logout", room: words.at(1) };
    case "renew": return { kind: "renewToken", room: words.at(1), userToken: words.at(2) };
    case "publish": return { kind: "publish", key: key(words.at(1)) };
    case "unpublish": return { kind: "stopPublishing", key: key(words.at(1)) };
    case "play": return { kind: "play", key: key(words.at(1)) };
    case "unplay": return { kind: "stopPlaying", key: key(words.at(1)) };
    case "close": return { kind: "close" };
    default: return undefined;
  }
}

function session(words: Words, now: Instant): Input | undefined {
  switch (words.at(0)) {
    case "answered": return { kind: "answered", attempt: words.number(1) };
    case "up": return { kind: "up", attempt: words.number(1) };
    case "media": return { kind: "media", attempt: words.number(1) };
    case "heard": return { kind: "heard", attempt: words.number(1), at: now };
    case "phase": {
      const under = words.length > 3 ? claim(words.at(3)) : undefined;
      return { kind: "phase", attempt: words.number(1), phase: named(PHASES, words.at(2)), claim: under };
    }
    case "fail": return { kind: "failed", attempt: words.number(1), failure: named(FAILURES, words.at(2)) };
    case "eventsup": {
      const life = words.length > 2 ? words.at(2) : words.at(1);
      return { kind: "eventsUp", node: nodeRef(words.at(1)), life: nodeRef(life) };
    }
    case "eventslost": return { kind: "eventsLost", node: nodeRef(words.at(1)), loss: named(LOSSES, words.at(2)) };
    default: return undefined;
  }
}

function coordinator(words: Words): Input | undefined {
  switch (words.at(0)) {
    case "lost": return { kind: "connectionLost", connection: words.number(1) };
    case "loginfailed": {
      const failure = callFailure(words.at(3));
      return { kind: "loginFailed", connection: words.number(1), room: words.at(2), failure };
    }
    case "beat": {
      const rooms = answer(words.at(2), () => words.from(3));
      return { kind: "beatAnswered", connection: words.number(1), answer: rooms };
    }
    case "plan": {
      return { kind: "planned", request: words.number(1), answer: answer(words.at(2), () => plan(words.from(3))) };
    }
    default: {
      const what = told(words);
      return what === undefined ? undefined : { kind: "told", connection: words.number(1), told: what };
    }
  }
}

function told(words: Words): Told | undefined {
  switch (words.at(0)) {
    case "welcome": return { kind: "welcome", coordinators: words.from(2), beatInterval: 5_000 };
    case "roomup": {
      const more = words.from(5);
      const snapshot = {
        session: words.at(3),
        revision: revision(words.at(4)),
        users: list(more, "users=", user),
        streams: list(more, "streams=", stream),
      };
      return { kind: "roomUp", room: words.at(2), snapshot };
    }
    case "change": {
      return { kind: "roomChange", room: words.at(2), revision: revision(words.at(3)), deltas: deltas(words.from(4)) };
    }
    case "roomdown": return { kind: "roomDown", room: words.at(2), code: errorCode(words.number(3)) };
    case "nodes": return { kind: "nodes", nodes: words.from(2).map(node) };
    case "suspect": return { kind: "suspect", node: nodeRef(words.at(2)) };
    case "expiring": return { kind: "tokenExpiring", room: words.at(2), in: words.number(3) * 1_000 };
    case "tryother": return { kind: "tryOther", within: 1_000 };
    default: return undefined;
  }
}

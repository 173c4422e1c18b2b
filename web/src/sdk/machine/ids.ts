/**
 * The names of the domain: rooms, streams, nodes, claims, error codes, and how they are ordered.
 *
 * Invariant: every order is that of the other SDK, byte for byte of UTF-8, so that both do the same in the same case.
 */

export type RoomId = string;
export type UserId = string;
export type StreamId = string;
export type NodeId = string;
/** The public name of a login; others see it. */
export type SessionId = string;
/** The client's secret name of a login, chosen from at least 128 random bits. */
export type LoginId = string;

/** Longest id, in bytes of UTF-8. */
const MAX_ID_BYTES = 128;

/** What is wrong with an id. */
export type IdError =
  | { readonly kind: "empty" }
  | { readonly kind: "tooLong"; readonly bytes: number }
  | { readonly kind: "badCharacter"; readonly found: string };

/** Why this text cannot be an id; `undefined` if it can. */
export function idError(text: string): IdError | undefined {
  if (text === "") return { kind: "empty" };
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_ID_BYTES) return { kind: "tooLong", bytes };
  const found = /[^\p{Alphabetic}\p{N}\-_.:@]/u.exec(text)?.[0];
  if (found !== undefined) return { kind: "badCharacter", found };
  // A path would take these two for itself.
  return text === "." || text === ".." ? { kind: "badCharacter", found: "." } : undefined;
}

/** How two things are ordered: negative, zero, positive. */
export type Compare<T> = (a: T, b: T) => number;

/** By code points, which is the order of the bytes of UTF-8. (`<` compares UTF-16 units.) */
export function compareText(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; ) {
    const [left, right] = [a.codePointAt(i) ?? 0, b.codePointAt(i) ?? 0];
    if (left !== right) return left - right;
    i += left > 0xffff ? 2 : 1;
  }
  return a.length - b.length;
}

/** By size. */
export function compareBigint(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A stream by its room and id. */
export interface StreamKey {
  readonly room: RoomId;
  readonly stream: StreamId;
}

/** By room, then by stream. */
export function compareStreamKey(a: StreamKey, b: StreamKey): number {
  return compareText(a.room, b.room) || compareText(a.stream, b.stream);
}

/** As people write it. */
export function streamKeyText(key: StreamKey): string {
  return `${key.room}/${key.stream}`;
}

/** One life of a relay: a restarted relay is another incarnation. */
export interface NodeRef {
  readonly id: NodeId;
  /** Unix milliseconds of the process's start; later lives compare higher. */
  readonly incarnation: bigint;
}

/** By id, then by incarnation. */
export function compareNodeRef(a: NodeRef, b: NodeRef): number {
  return compareText(a.id, b.id) || compareBigint(a.incarnation, b.incarnation);
}

/** Whether both are the same life of the same relay. */
export function sameNode(a: NodeRef, b: NodeRef): boolean {
  return a.id === b.id && a.incarnation === b.incarnation;
}

/** As people write it. */
export function nodeText(node: NodeRef): string {
  return `${node.id}#${node.incarnation}`;
}

/** What a coordinator thinks of a node. Nobody leaves a working session for the word "suspect". */
export type Health = "healthy" | "suspect";

/** The better one is the lower one. */
export function compareHealth(a: Health, b: Health): number {
  return healthRank(a) - healthRank(b);
}

function healthRank(health: Health): number {
  switch (health) {
    case "healthy": return 0;
    case "suspect": return 1;
    default: return unreachable(health);
  }
}

/** A relay as a client sees it. */
export interface Node {
  /** Which life of which relay. */
  readonly node: NodeRef;
  /** Base address of WHIP, WHEP and the event connection, without a slash at its end. */
  readonly httpUrl: string;
  /** Where it stands; empty if not configured. */
  readonly region: string;
  readonly health: Health;
}

/** Who may publish a stream, and which session is the newest: the pair (epoch, move), compared in that order. */
export interface Claim {
  /** Raised by a coordinator. */
  readonly epoch: bigint;
  /** Raised by the publishing client; `move` on the wire. */
  readonly moved: number;
}

const MAX_MOVED = 0xffff_ffff;

/** The first claim of an epoch. */
export function firstClaim(epoch: bigint): Claim {
  return { epoch, moved: 0 };
}

/** The claim under which the next session of the same publisher becomes the active one. */
export function nextMove(claim: Claim): Claim {
  return { epoch: claim.epoch, moved: Math.min(claim.moved + 1, MAX_MOVED) };
}

/** By epoch, then by move. */
export function compareClaim(a: Claim, b: Claim): number {
  return compareBigint(a.epoch, b.epoch) || a.moved - b.moved;
}

/** As people write it. */
export function claimText(claim: Claim): string {
  return `${claim.epoch}.${claim.moved}`;
}

/** What a node token allows. */
export type Action = "publish" | "play";

/** The numbers of the behaviour's error table: those that users of the source SDK know. */
export const ErrorCode = {
  /** This client is in as many rooms as it may be (ROOM-12). */
  TooManyRooms: 1_002_001,
  /** No coordinator answered within the room's retry time. */
  NoCoordinator: 1_002_030,
  /** Bad signature, wrong app, wrong user, room, stream or action. */
  TokenRefused: 1_002_033,
  /** The room takes no more users. */
  RoomFull: 1_002_034,
  /** The same user logged in elsewhere (ROOM-7). */
  Replaced: 1_002_050,
  /** The connection to the coordinator is broken (ROOM-3); not final. */
  RoomBroken: 1_002_051,
  /** The room's retry time is up (ROOM-6). */
  RoomGaveUp: 1_002_053,
  /** Kicked by an operator or the app's server (ROOM-8). */
  Kicked: 1_002_055,
  /** The user token expired and was not renewed (ROOM-8). */
  TokenExpired: 1_002_056,
  /** Every node was tried (PUB-3). */
  PublishFailed: 1_003_001,
  /** The publisher's session was lost (PUB-2); not final. */
  PublishInterrupted: 1_003_020,
  /** The publisher's retry time is up (PUB-4). */
  PublishGaveUp: 1_003_021,
  /** Forbidden by the token or an operator (PUB-5). */
  PublishForbidden: 1_003_025,
  /** The stream id is being published by another user (PUB-5). */
  StreamTaken: 1_003_028,
  /** Every node was tried (PLAY-3). */
  PlayFailed: 1_004_001,
  /** A coordinator says that the room has no such stream (PLAY-3). */
  NoSuchStream: 1_004_002,
  /** The player's session was lost (PLAY-2); not final. */
  PlayInterrupted: 1_004_020,
  /** The player's retry time is up (PLAY-4). */
  PlayGaveUp: 1_004_021,
  /** Forbidden by the token or an operator (PLAY-5). */
  PlayForbidden: 1_004_025,
} as const;

export type ErrorName = keyof typeof ErrorCode;
export type ErrorCode = (typeof ErrorCode)[ErrorName];

const TEXTS: Readonly<Record<ErrorCode, string>> = {
  [ErrorCode.TooManyRooms]: "too many rooms for this client",
  [ErrorCode.NoCoordinator]: "could not connect to any coordinator",
  [ErrorCode.TokenRefused]: "token refused",
  [ErrorCode.RoomFull]: "room full",
  [ErrorCode.Replaced]: "kicked: the same user logged in elsewhere",
  [ErrorCode.RoomBroken]: "connection broken, reconnecting",
  [ErrorCode.RoomGaveUp]: "gave up reconnecting",
  [ErrorCode.Kicked]: "kicked by an operator",
  [ErrorCode.TokenExpired]: "token expired and not renewed",
  [ErrorCode.PublishFailed]: "publish failed: every node was tried",
  [ErrorCode.PublishInterrupted]: "publish interrupted, recovering",
  [ErrorCode.PublishGaveUp]: "gave up publishing",
  [ErrorCode.PublishForbidden]: "publishing forbidden by the token or an operator",
  [ErrorCode.StreamTaken]: "the stream id is being published by another user",
  [ErrorCode.PlayFailed]: "play failed: every node was tried",
  [ErrorCode.NoSuchStream]: "no such stream in the room",
  [ErrorCode.PlayInterrupted]: "play interrupted, recovering",
  [ErrorCode.PlayGaveUp]: "gave up playing",
  [ErrorCode.PlayForbidden]: "playing forbidden by the token or an operator",
};

/** What the code says, in one line. */
export function errorText(code: ErrorCode): string {
  return TEXTS[code];
}

/** The code of a number, if the table has it. */
export function errorCode(number: number): ErrorCode | undefined {
  return Object.values(ErrorCode).find((code) => code === number);
}

/** The name of a code in the table. */
export function errorName(code: ErrorCode): ErrorName {
  const names = Object.keys(ErrorCode) as ErrorName[];
  const name = names.find((name) => ErrorCode[name] === code);
  if (name === undefined) throw new RangeError(`${code} is not in the error table`);
  return name;
}

/** Whether nothing is retried after it. */
export function isFinalCode(code: ErrorCode): boolean {
  return code !== ErrorCode.RoomBroken && code !== ErrorCode.PublishInterrupted && code !== ErrorCode.PlayInterrupted;
}

/** What the compiler proves never to come: a kind that no `case` thought of. */
export function unreachable(value: never): never {
  throw new TypeError(`no case was written for ${String(value)}`);
}

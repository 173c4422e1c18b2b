/**
 * A client's publishers and players, what they share, and who holds which attempt.
 *
 * Invariant: a machine that has ended is taken out before anybody else acts, and its claim is owed by its room.
 */

import { Shared } from "./hedge";
import {
  compareStreamKey, type Action, type Claim, type ErrorCode, type Node, type NodeRef, type RoomId, type StreamId,
  type StreamKey,
} from "./ids";
import type { Answer, HeldClaim, Output, Phase, Plan, RequestId, Settings } from "./io";
import type { Context, Desk } from "./lane";
import { Player } from "./player";
import { Publisher } from "./publisher";
import { SortedMap } from "./sorted";
import { earliest, type Instant } from "./time";
import { isAnswer, type AttemptId, type Failure } from "./trial";
import type { WalkInput } from "./walk";
import type { Wishes } from "./wishes";

/** What streams need of their rooms. */
export interface Desks {
  /** Where the room's calls go; `undefined` while it is not connected. */
  desk(room: RoomId): Desk | undefined;
  /** A claim is to be given up. */
  owe(key: StreamKey, epoch: bigint): void;
}

/** Plans without a publisher whose answers are awaited. */
const MAX_FORSAKEN = 64;

/** An attempt in the hands of some walk. */
export interface Owner {
  readonly key: StreamKey;
  readonly action: Action;
  readonly node: NodeRef;
}

/** Publishers and players. */
export class Streams {
  readonly #settings: Settings;
  readonly #shared: Shared;
  readonly #desks: Desks;
  readonly #wishes: Wishes;
  readonly #publishers = new SortedMap<StreamKey, Publisher>(compareStreamKey);
  readonly #players = new SortedMap<StreamKey, Player>(compareStreamKey);
  readonly #owners = new Map<AttemptId, Owner>();
  /** Plans that were under way when their publisher ended: a claim that they bring is owed. */
  readonly #forsaken = new Map<RequestId, StreamKey>();
  /** Every node known. */
  #nodes: readonly Node[] = [];

  constructor(settings: Settings, shared: Shared, desks: Desks, wishes: Wishes) {
    this.#settings = settings;
    this.#shared = shared;
    this.#desks = desks;
    this.#wishes = wishes;
  }

  publishes(key: StreamKey): boolean {
    return this.#publishers.has(key);
  }

  plays(key: StreamKey): boolean {
    return this.#players.has(key);
  }

  publish(key: StreamKey, now: Instant): void {
    if (this.publishes(key)) return;
    this.#publishers.set(key, new Publisher(key, this.#settings.avRetryTime, this.#context(key.room, now)));
  }

  play(key: StreamKey, now: Instant): void {
    if (this.plays(key)) return;
    this.#players.set(key, new Player(key, this.#settings.avRetryTime, this.#context(key.room, now)));
  }

  stopPublishing(key: StreamKey, now: Instant): void {
    this.#withPublisher(key, now, (publisher, cx) => publisher.end(undefined, cx));
  }

  stopPlaying(key: StreamKey, now: Instant): void {
    this.#withPlayer(key, now, (player, cx) => player.end(undefined, cx));
  }

  /** The room's streams end. */
  endRoom(room: RoomId, code: ErrorCode | undefined, now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.end(code, cx), room);
    this.#eachPlayer(now, (player, cx) => player.end(code, cx), room);
  }

  /** All end. */
  endAll(now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.end(undefined, cx));
    this.#eachPlayer(now, (player, cx) => player.end(undefined, cx));
  }

  /** What a room's login publishes. */
  held(room: RoomId): readonly HeldClaim[] {
    return this.#publishers
      .entries()
      .filter(([key]) => key.room === room)
      .flatMap(([, publisher]) => publisher.held() ?? []);
  }

  /** The list of all nodes has changed. */
  listed(nodes: readonly Node[], now: Instant): void {
    this.#nodes = nodes;
    this.#eachPublisher(now, (publisher, cx) => publisher.listed(cx));
    this.#eachPlayer(now, (player, cx) => player.listed(cx));
  }

  /** The room is connected again, or its coordinator is another one. */
  deskOpened(room: RoomId, now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.deskOpened(cx), room);
    this.#eachPlayer(now, (player, cx) => player.deskOpened(cx), room);
  }

  /** Players of streams that left the room hear of it, and those of streams that are there. */
  roomChanged(room: RoomId, isThere: (stream: StreamId) => boolean, left: readonly StreamId[], now: Instant): void {
    for (const key of this.#players.keys().filter((key) => key.room === room)) {
      if (isThere(key.stream)) this.#withPlayer(key, now, (player) => player.streamCame());
      else if (left.includes(key.stream)) this.#withPlayer(key, now, (player, cx) => player.streamLeft(cx));
    }
  }

  planned(request: RequestId, answer: Answer<Plan>, now: Instant): void {
    const publisher = this.#publishers.entries().find(([, publisher]) => publisher.awaits(request))?.[0];
    if (publisher !== undefined) {
      this.#withPublisher(publisher, now, (publisher, cx) => publisher.planned(answer, cx));
      return;
    }
    const player = this.#players.entries().find(([, player]) => player.awaits(request))?.[0];
    if (player !== undefined) {
      this.#withPlayer(player, now, (player, cx) => player.planned(answer, cx));
      return;
    }
    const forsaken = this.#forsaken.get(request);
    this.#forsaken.delete(request);
    if (forsaken === undefined || answer.kind === "error" || answer.value.claim === undefined) return;
    // Another publisher of the stream has the same claim.
    if (!this.publishes(forsaken)) this.#desks.owe(forsaken, answer.value.claim.epoch);
  }

  /** A coordinator answered. */
  coordinatorAnswered(now: Instant): void {
    this.#shared.evidence.coordinator(now);
    this.#networkAnswered(now);
  }

  /** A node has taken a session, or says a word. */
  nodeAnswered(attempt: AttemptId, now: Instant): void {
    const owner = this.#owners.get(attempt);
    if (owner === undefined) return;
    this.#shared.evidence.node(owner.node.id, now);
    this.#networkAnswered(now);
  }

  /** The attempt's transport is up. */
  up(attempt: AttemptId, now: Instant): void {
    this.nodeAnswered(attempt, now);
    this.#ofPublish(attempt, now, (publisher, cx) => publisher.walk({ kind: "ready", attempt }, cx));
    this.#ofPlay(attempt, now, (player, cx) => player.up(attempt, cx));
  }

  /** The attempt's media has come. */
  media(attempt: AttemptId, now: Instant): void {
    this.#ofPlay(attempt, now, (player, cx) => player.media(attempt, cx));
  }

  heard(attempt: AttemptId, at: Instant, now: Instant): void {
    const owner = this.#owners.get(attempt);
    const input: WalkInput = { kind: "heard", attempt, at: Math.min(at, now) };
    if (owner !== undefined) this.#shared.evidence.node(owner.node.id, input.at);
    this.#ofPublish(attempt, now, (publisher, cx) => publisher.walk(input, cx));
    this.#ofPlay(attempt, now, (player, cx) => player.walk(input, cx));
  }

  phase(attempt: AttemptId, phase: Phase, claim: Claim | undefined, now: Instant): void {
    this.#ofPublish(attempt, now, (publisher) => publisher.phase(attempt, phase, claim));
    this.#ofPlay(attempt, now, (player, cx) => player.phase(attempt, phase, cx));
  }

  failed(attempt: AttemptId, failure: Failure, now: Instant): void {
    const answered = isAnswer(failure) && this.#owners.has(attempt);
    this.#ofPublish(attempt, now, (publisher, cx) => publisher.failed(attempt, failure, cx));
    this.#ofPlay(attempt, now, (player, cx) => player.failed(attempt, failure, cx));
    if (answered) this.#networkAnswered(now);
  }

  /** The event connection to a node is up. */
  eventsUp(node: NodeRef, now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.eventsUp(node, cx));
  }

  /** Every walk hears it. */
  eachWalk(input: WalkInput, now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.walk(input, cx));
    this.#eachPlayer(now, (player, cx) => player.walk(input, cx));
  }

  timeout(now: Instant): void {
    this.#eachPublisher(now, (publisher, cx) => publisher.timeout(cx));
    this.#eachPlayer(now, (player, cx) => player.timeout(cx));
  }

  pollTimeout(): Instant | undefined {
    const timeouts = [...this.#publishers.entries(), ...this.#players.entries()].map(([key, machine]) =>
      machine.pollTimeout(this.#desks.desk(key.room) !== undefined));
    return earliest(...timeouts);
  }

  /** The attempt is in some walk's hands from now on. */
  own({ attempt, key, action, node }: Extract<Output, { kind: "dial" }>): void {
    this.#owners.set(attempt, { key, action, node: node.node });
  }

  /** It is not any more. Gives who had it. */
  disown(attempt: AttemptId): Owner | undefined {
    const owner = this.#owners.get(attempt);
    this.#owners.delete(attempt);
    return owner;
  }

  /** Somebody answered: verdicts may close, and rests may end. */
  #networkAnswered(now: Instant): void {
    this.eachWalk({ kind: "networkAnswered" }, now);
  }

  #context(room: RoomId, now: Instant): Context {
    const desk = this.#desks.desk(room);
    return { shared: this.#shared, wishes: this.#wishes, desk, nodes: this.#nodes, now };
  }

  #withPublisher(key: StreamKey, now: Instant, act: (publisher: Publisher, cx: Context) => void): void {
    const publisher = this.#publishers.get(key);
    if (publisher === undefined) return;
    act(publisher, this.#context(key.room, now));
    if (!publisher.ended()) return;
    this.#publishers.delete(key);
    const epoch = publisher.epoch();
    const request = publisher.askedFor();
    if (epoch !== undefined) {
      this.#desks.owe(key, epoch);
    } else if (request !== undefined) {
      const [oldest] = this.#forsaken.keys();
      if (oldest !== undefined && this.#forsaken.size === MAX_FORSAKEN) this.#forsaken.delete(oldest);
      this.#forsaken.set(request, key);
    }
  }

  #withPlayer(key: StreamKey, now: Instant, act: (player: Player, cx: Context) => void): void {
    const player = this.#players.get(key);
    if (player === undefined) return;
    act(player, this.#context(key.room, now));
    if (player.ended()) this.#players.delete(key);
  }

  /** Each publisher, or each of a room. */
  #eachPublisher(now: Instant, act: (publisher: Publisher, cx: Context) => void, room?: RoomId): void {
    for (const key of this.#publishers.keys()) {
      if (room === undefined || key.room === room) this.#withPublisher(key, now, act);
    }
  }

  /** Each player, or each of a room. */
  #eachPlayer(now: Instant, act: (player: Player, cx: Context) => void, room?: RoomId): void {
    for (const key of this.#players.keys()) {
      if (room === undefined || key.room === room) this.#withPlayer(key, now, act);
    }
  }

  #ofPublish(attempt: AttemptId, now: Instant, act: (publisher: Publisher, cx: Context) => void): void {
    const owner = this.#owners.get(attempt);
    if (owner?.action === "publish") this.#withPublisher(owner.key, now, act);
  }

  #ofPlay(attempt: AttemptId, now: Instant, act: (player: Player, cx: Context) => void): void {
    const owner = this.#owners.get(attempt);
    if (owner?.action === "play") this.#withPlayer(owner.key, now, act);
  }
}

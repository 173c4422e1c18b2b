/**
 * The whole public API of the browser SDK, as types. Nothing here runs.
 *
 * Numbers, names and codes are those of the behaviour's tables: each machine has the states 0, 1 and 2; code 0 means
 * that nothing is wrong; state 0 with another code is a final failure, after which nothing is retried.
 */

import type { EventSource } from "./emitter";

/** One life of a node: a restarted node is another one. */
export interface NodeRef {
  readonly id: string;
  /** Unix milliseconds of the process's start: later lives are higher. */
  readonly incarnation: bigint;
}

/** A node as coordinators describe it. */
export interface NodeInfo {
  readonly node: NodeRef;
  /** Base address of WHIP, WHEP and the event connection. */
  readonly httpUrl: string;
  readonly region: string;
  /** Suspect: its beats are missing. Nobody leaves a working session for this word. */
  readonly health: "healthy" | "suspect";
}

/** What a client starts with. */
export interface ClientOptions {
  /** Addresses of coordinators, such as `http://10.0.0.5:7400`; the client learns of the others from them. */
  coordinators: readonly string[];
  /** Where this client stands; nodes of the same region come first. */
  region?: string;
  /** Seconds for which a lost room is tried again; 0 is never. 1200 unless given (ROOM-6). */
  roomRetryTime?: number;
  /** Seconds for which an interrupted publisher or player is tried again; 0 is never. 300 unless given (PUB-4, PLAY-4). */
  avRetryTime?: number;
  /** Rooms at a time. 5 unless given (ROOM-12). */
  maxRooms?: number;
  /** Whether a silent node is met with a second session beside the first (GO-2). True unless given. */
  hedging?: boolean;
}

/** A login to one room. */
export interface LoginOptions {
  room: string;
  /** The user token that the app's server signed; it names the user. */
  token: string;
  /** Whether the other users' comings and goings are wanted. False unless given (ROOM-11). */
  notifyUsers?: boolean;
}

/** The two kinds of tracks. */
export type Kind = "audio" | "video";

/** Video codecs that nodes take, as WebRTC names them. */
export type VideoCodecName = "VP8" | "VP9" | "H264" | "AV1";

/** How a stream is published. */
export interface PublishOptions {
  /** Video codecs to offer, the preferred one first. Unless given, the browser's own order. */
  codecs?: readonly VideoCodecName[];
  /** Highest bits per second of the video. */
  maxBitrate?: number;
  /** Highest bits per second of the audio. */
  maxAudioBitrate?: number;
  /** What to give up when bandwidth is short. */
  degradation?: "maintain-framerate" | "maintain-resolution" | "balanced";
}

/** How a stream is played. */
export interface PlayOptions {
  /** Whether audio is wanted. True unless given. */
  audio?: boolean;
  /** Whether video is wanted. True unless given. */
  video?: boolean;
}

/** Media to publish: a stream, or tracks. At least one track must be there. */
export type Media = MediaStream | { audio?: MediaStreamTrack | null; video?: MediaStreamTrack | null };

/** Names of a room's states 0, 1, 2. */
export type RoomStateName = "Disconnected" | "Connecting" | "Connected";
/** Names of a publisher's states 0, 1, 2. */
export type PublisherStateName = "NoPublish" | "PublishRequesting" | "Publishing";
/** Names of a player's states 0, 1, 2. */
export type PlayerStateName = "NoPlay" | "PlayRequesting" | "Playing";

/** How a machine stands, and why. */
export interface State<Name extends string> {
  readonly number: 0 | 1 | 2;
  readonly name: Name;
  /** 0, or a number of the error table. */
  readonly code: number;
  /** What the code says, in one line; empty for 0. */
  readonly text: string;
  /** Whether this is a final failure: nothing is retried after it. */
  readonly final: boolean;
}

/** How a room stands. */
export interface RoomState extends State<RoomStateName> {
  /** Public name of the login, once there is one. It stays the same over a reconnection (ROOM-4). */
  readonly session: string | null;
}

/** How a publisher or player stands. A change of node alone is an update too. */
export interface StreamState<Name extends string> extends State<Name> {
  /** The node in use. */
  readonly node: NodeRef | null;
  /** Number of the attempt in use, or of the last one. */
  readonly attempt: number;
  /** Whether nothing flows although all is well: the publisher is muted. */
  readonly idle: boolean;
  /** Which nodes were tried, what each answered and how long it took (GO-5). */
  readonly trace: readonly Trial[];
  /** After a final failure: how long to wait before trying again by hand (PUB-3). */
  readonly retryAfterMs: number | null;
}

/** How a publisher stands. */
export type PublisherState = StreamState<PublisherStateName>;
/** How a player stands. */
export type PlayerState = StreamState<PlayerStateName>;

/** What became of an attempt at a node. */
export type OutcomeWord =
  | "used" | "unreachable" | "timed_out" | "not_here" | "refused" | "media_lost" | "unneeded" | "void";

/** One attempt in a trace. */
export interface Trial {
  readonly attempt: number;
  readonly node: NodeRef;
  readonly outcome: OutcomeWord;
  /** The outcome in words. */
  readonly detail: string;
  /** When it started, from the trace's first attempt. */
  readonly atMs: number;
  readonly tookMs: number;
}

/** The end of an attempt at a node (GO-5). */
export interface AttemptEvent {
  readonly node: NodeRef;
  readonly outcome: OutcomeWord;
  /** The outcome in words. */
  readonly detail: string;
  readonly tookMs: number;
}

/** A stop in the media that an app gets or sends. */
export interface GapEvent {
  /** From the last media before it to the first after it. Of a player: the longer one of its kinds. */
  readonly ms: number;
  /** The same for each kind that flowed before. */
  readonly kinds: Readonly<Partial<Record<Kind, number>>>;
  /** The node before it. */
  readonly before: NodeRef;
  /** The node after it. */
  readonly after: NodeRef;
}

/** 0 excellent, 1 good, 2 medium, 3 bad, 4 dead, 5 unknown. */
export type QualityLevel = 0 | 1 | 2 | 3 | 4 | 5;

/** Names of the levels 0 to 5. */
export type QualityName = "excellent" | "good" | "medium" | "bad" | "dead" | "unknown";

/** How good the last 3 s were (GO-7). */
export interface Quality {
  readonly level: QualityLevel;
  readonly name: QualityName;
  /** Round-trip time to the node; `null` where it is not known. */
  readonly rttMs: number | null;
  /** Share of packets lost, 0 to 1; `null` where it is not known. */
  readonly loss: number | null;
  /** Media sent or received. */
  readonly bitsPerSecond: number;
  /** Video frames sent or decoded. */
  readonly framesPerSecond: number;
  /** How long the picture stood still within these 3 s. Players only; 0 for a publisher. */
  readonly freezeMs: number;
  /** Codecs in use, such as `VP8`. */
  readonly codecs: Readonly<Partial<Record<Kind, string>>>;
  readonly node: NodeRef | null;
}

/** A user in a room. The same user in another login is another entry. */
export interface RoomUser {
  readonly user: string;
  readonly session: string;
}

/** A stream in a room. The same stream of another session or epoch is another entry. */
export interface RoomStream {
  readonly stream: string;
  readonly user: string;
  readonly session: string;
  readonly epoch: bigint;
}

/** Entries came or went. */
export interface Update<Entry> {
  readonly change: "add" | "delete";
  readonly entries: readonly Entry[];
}

/** What a room tells. */
export interface RoomEvents {
  /** Each change of its state. */
  state: RoomState;
  /** Other users came or went; only if asked for at login. */
  users: Update<RoomUser>;
  /** Streams of others came or went. */
  streams: Update<RoomStream>;
  /** The user token is about to expire: call `renew` (ROOM-8). */
  tokenExpiring: { readonly inMs: number };
}

/** What a publisher tells. */
export interface PublisherEvents {
  /** Each change of its state or of its node. */
  state: PublisherState;
  /** An attempt at a node has ended. */
  attempt: AttemptEvent;
  /** Its media went to no node for a while: from the last sign of the node before to the session after. */
  gap: GapEvent;
  /** Every 3 s while there is a session. */
  quality: Quality;
  /** The browser ended a track: a screen share was stopped, or a device unplugged. Publishing goes on without it. */
  trackEnded: { readonly kind: Kind };
}

/** What a player tells. */
export interface PlayerEvents {
  /** Each change of its state or of its node. */
  state: PlayerState;
  /** An attempt at a node has ended. */
  attempt: AttemptEvent;
  /** Media stopped for over 100 ms, or came from another node. */
  gap: GapEvent;
  /** Every 3 s while there is a session. */
  quality: Quality;
  /** The stream became idle (muted), or flows again. */
  idle: { readonly idle: boolean };
}

/** How the client is connected to a coordinator. */
export type Connection =
  | { readonly state: "idle" }
  | { readonly state: "connecting"; readonly url: string }
  | { readonly state: "connected"; readonly url: string };

/** What a client tells. */
export interface ClientEvents {
  /** The list of nodes, held ahead of time. */
  nodes: readonly NodeInfo[];
  /** The connection to a coordinator. Media does not need it. */
  connection: Connection;
}

/** A room that this client is logged in to. */
export interface Room extends EventSource<RoomEvents> {
  readonly id: string;
  readonly state: RoomState;
  /** The other users, as far as they were told of. */
  readonly users: readonly RoomUser[];
  /** The streams of others. */
  readonly streams: readonly RoomStream[];
  /** Replaces the user token by one that expires later. */
  renew(token: string): void;
  /** Leaves. Publishers and players of the room end. */
  logout(): void;
}

/** A stream that is being published. */
export interface Publisher extends EventSource<PublisherEvents> {
  readonly room: string;
  readonly stream: string;
  readonly state: PublisherState;
  readonly quality: Quality | null;
  /** The track that is sent, or would be if it were not muted. */
  track(kind: Kind): MediaStreamTrack | null;
  /**
   * Sends another track of the same kind from now on: another camera, a shared screen. The one before is not stopped.
   * A kind that was not there at `publish` cannot be added: stop and publish again.
   */
  replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void>;
  /** Sends nothing of a kind, or sends it again. The track itself is not touched: a preview goes on. */
  mute(kind: Kind, muted: boolean): void;
  muted(kind: Kind): boolean;
  /** Stops publishing: the stream leaves the room. Tracks are the app's to stop. */
  stop(): void;
}

/** A stream that is being played. */
export interface Player extends EventSource<PlayerEvents> {
  readonly room: string;
  readonly stream: string;
  /**
   * What is played. It is the same object for the player's whole life: give it to `video.srcObject` once. When the
   * player changes nodes, tracks are swapped within it, and media elements go on without a touch.
   */
  readonly media: MediaStream;
  readonly state: PlayerState;
  readonly idle: boolean;
  readonly quality: Quality | null;
  stop(): void;
}

/** A client of a cluster. */
export interface Client extends EventSource<ClientEvents> {
  /** Every node known. */
  readonly nodes: readonly NodeInfo[];
  readonly connection: Connection;
  readonly rooms: ReadonlyMap<string, Room>;
  readonly publishers: readonly Publisher[];
  readonly players: readonly Player[];
  /** Logs in to a room. The outcome is told by the room's `state` (ROOM-1, ROOM-2). */
  login(options: LoginOptions): Room;
  /** Publishes a stream of a room that this client is logged in to. */
  publish(room: Room | string, stream: string, media: Media, options?: PublishOptions): Publisher;
  /** Plays `room/stream`, of a room that this client is logged in to. */
  play(key: string, options?: PlayOptions): Player;
  play(room: Room | string, stream: string, options?: PlayOptions): Player;
  /** Ends everything: publishers, players, logins. Resolves when coordinators and nodes were told, or after 2 s. */
  close(): Promise<void>;
}

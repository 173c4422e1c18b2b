/** A whole cluster for a page that has no browser: coordinators behind `fetch`, nodes behind `fetch`, sockets and peers. */

import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { ClientEventSchema, NodeEventSchema, SessionPhase } from "../../src/gen/waystation/v1/event_pb";
import {
  BeatResponseSchema, ConnectEventSchema, ConnectRequestSchema, EndStreamResponseSchema, LoginResponseSchema,
  LogoutResponseSchema, PlanPlayResponseSchema, PlanPublishResponseSchema, RenewTokenResponseSchema, ReportResponseSchema,
} from "../../src/gen/waystation/v1/room_pb";

/** From a word of the network to its arrival. */
const DELAY_MS = 5;

interface FakeSession {
  readonly name: string;
  readonly kind: "whip" | "whep";
  readonly node: FakeNode;
  claim: { epoch: bigint; move: number } | undefined;
}

/** One node, over all its lives. */
export class FakeNode {
  alive = true;
  incarnation = 1n;
  readonly url: string;

  constructor(readonly id: string) {
    this.url = `http://${id}:1`;
  }

  get wire() {
    return { ref: { id: this.id, incarnation: this.incarnation }, httpUrl: this.url, linkUrl: this.url, mediaAddr: "127.0.0.1:1" };
  }
}

/** The cluster, and everything that a page has open there. */
export class FakeCluster {
  readonly nodes = ["a", "b", "c"].map((id) => new FakeNode(id));
  readonly sessions = new Map<string, FakeSession>();
  readonly peers = new Set<FakePeer>();
  readonly sockets = new Set<FakeSocket>();
  readonly streams = new Set<ReadableStreamDefaultController<Uint8Array>>();
  readonly calls = new Map<string, number>();
  opened = 0;

  /** What stands in for the browser's own globals. */
  globals(): Record<string, unknown> {
    const cluster = this;
    return {
      fetch: (input: RequestInfo | URL, init?: RequestInit) => this.fetch(String(input), init ?? {}),
      WebSocket: class extends FakeSocket { constructor(url: string) { super(cluster, url); } },
      RTCPeerConnection: class extends FakePeer { constructor() { super(cluster); } },
      MediaStream: FakeStream,
    };
  }

  kill(node: FakeNode): void {
    node.alive = false;
    for (const [name, session] of this.sessions) if (session.node === node) this.sessions.delete(name);
    for (const socket of [...this.sockets]) if (socket.node === node) socket.broken();
  }

  revive(node: FakeNode): void {
    node.alive = true;
    node.incarnation += 1n;
    for (const stream of this.streams) this.#tellNodes(stream);
  }

  /** Every coordinator connection breaks. */
  disconnect(): void {
    for (const stream of [...this.streams]) {
      this.streams.delete(stream);
      stream.error(new TypeError("network error"));
    }
  }

  #tellNodes(stream: ReadableStreamDefaultController<Uint8Array>): void {
    const nodes = { epoch: 1n, nodes: this.nodes.map((node) => node.wire) };
    stream.enqueue(frame(ConnectEventSchema, { event: { case: "nodes", value: nodes } }));
  }

  async fetch(url: string, init: RequestInit): Promise<Response> {
    const { host, pathname } = new URL(url);
    const node = this.nodes.find(({ id }) => host === `${id}:1`);
    return node === undefined ? this.#call(pathname.split("/").at(-1) ?? "", init) : this.#media(node, pathname, init);
  }

  #media(node: FakeNode, path: string, init: RequestInit): Response {
    if (!node.alive) throw new TypeError("Failed to fetch");
    const [, kind, name] = path.split("/");
    // A session is ended by its holder (RFC 9725 §4.2).
    if (!new Headers(init.headers).get("authorization")?.startsWith("Bearer ")) return new Response(null, { status: 401 });
    if (init.method === "DELETE") return new Response(null, { status: this.sessions.delete(name ?? "") ? 200 : 404 });
    this.opened += 1;
    const session = `session-${this.opened}`;
    const moved = new Headers(init.headers).get("waystation-move");
    const claim = moved === null ? undefined : { epoch: 1n, move: Number(moved) };
    this.sessions.set(session, { name: session, kind: kind === "whip" ? "whip" : "whep", node, claim });
    return new Response(session, { status: 201, headers: { location: `/session/${session}` } });
  }

  async #call(method: string, init: RequestInit): Promise<Response> {
    this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
    const nodes = this.nodes.map((node) => node.wire);
    switch (method) {
      case "Connect": return this.#connect(init);
      case "Login": return unary(LoginResponseSchema, {});
      case "Beat": return unary(BeatResponseSchema, {});
      case "Logout": return unary(LogoutResponseSchema, {});
      case "PlanPublish": return unary(PlanPublishResponseSchema, { claim: { epoch: 1n, move: 0 }, nodeToken: "t", tokenValidMs: 3_600_000, nodes });
      case "PlanPlay": return unary(PlanPlayResponseSchema, { nodeToken: "t", tokenValidMs: 3_600_000, nodes });
      case "EndStream": return unary(EndStreamResponseSchema, {});
      case "RenewToken": return unary(RenewTokenResponseSchema, {});
      case "Report": return unary(ReportResponseSchema, {});
      default: throw new TypeError(`no method ${method}`);
    }
  }

  #connect(init: RequestInit): Response {
    const request = fromBinary(ConnectRequestSchema, (init.body as Uint8Array).subarray(5));
    let own: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({
      start: (stream) => {
        own = stream;
        this.streams.add(stream);
        init.signal?.addEventListener("abort", () => { if (this.streams.delete(own)) own.error(init.signal?.reason); }, { once: true });
        stream.enqueue(frame(ConnectEventSchema, { event: { case: "welcome", value: { coordinatorUrls: ["http://coordinator"], beatIntervalMs: 5_000 } } }));
        this.#tellNodes(stream);
        for (const { room } of request.rooms) {
          const up = { room, sessionId: "own", revision: { storeId: "store", number: 1n }, users: [], streams: [{ stream: "s", user: "other", sessionId: "theirs", epoch: 1n }] };
          stream.enqueue(frame(ConnectEventSchema, { event: { case: "roomUp", value: up } }));
        }
      },
      cancel: () => { this.streams.delete(own); },
    });
    return new Response(body, { status: 200, headers: { "content-type": "application/grpc-web+proto" } });
  }
}

function frame<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Uint8Array<ArrayBuffer> {
  return enveloped(0, toBinary(schema, create(schema, message)));
}

function enveloped(flags: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(5 + payload.length);
  bytes[0] = flags;
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, 5);
  return bytes;
}

function unary<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Response {
  const trailers = enveloped(0x80, new TextEncoder().encode("grpc-status: 0\r\n"));
  return new Response(new Blob([frame(schema, message), trailers]), { status: 200, headers: { "content-type": "application/grpc-web+proto" } });
}

/** A node's end of an event connection, and the page's. */
export class FakeSocket {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  readyState = 0;
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  onclose: (() => void) | null = null;
  readonly node: FakeNode | undefined;
  readonly #life: bigint;

  constructor(private readonly cluster: FakeCluster, url: string) {
    this.node = cluster.nodes.find(({ id }) => new URL(url).host === `${id}:1`);
    this.#life = this.node?.incarnation ?? 0n;
    cluster.sockets.add(this);
    setTimeout(() => this.#dialled(), DELAY_MS);
  }

  #dialled(): void {
    if (this.readyState !== 0) return;
    if (this.node?.alive !== true) return this.broken();
    this.readyState = 1;
    this.onopen?.();
    this.#tell({ event: { case: "welcome", value: { node: { id: this.node.id, incarnation: this.#life } } } });
  }

  broken(): void {
    this.readyState = 3;
    this.cluster.sockets.delete(this);
    this.onclose?.();
  }

  close(): void {
    this.readyState = 3;
    this.cluster.sockets.delete(this);
  }

  send(bytes: Uint8Array): void {
    const { event } = fromBinary(ClientEventSchema, bytes);
    if (event.case === "ping") return this.#tell({ event: { case: "pong", value: { id: event.value.id } } });
    if (event.case === undefined) return;
    const session = this.cluster.sessions.get(event.value.session);
    if (session === undefined) return;
    if (event.case === "activate") session.claim = event.value.claim;
    const phase = session.kind === "whip" && session.claim === undefined ? SessionPhase.STANDBY : SessionPhase.FLOWING;
    const claim = session.claim === undefined ? {} : { claim: session.claim };
    this.#tell({ event: { case: "state", value: { session: session.name, phase, ...claim } } });
  }

  #tell(message: MessageInitShape<typeof NodeEventSchema>): void {
    const data = toBinary(NodeEventSchema, create(NodeEventSchema, message)).slice().buffer;
    setTimeout(() => { if (this.readyState === 1) this.onmessage?.({ data }); }, DELAY_MS);
  }
}

/** A track whose listeners are counted. */
export class FakeTrack {
  listeners = 0;
  onunmute: (() => void) | null = null;

  constructor(readonly kind: "audio" | "video") {}

  addEventListener(): void {
    this.listeners += 1;
  }

  removeEventListener(): void {
    this.listeners -= 1;
  }
}

/** A media stream. */
export class FakeStream {
  readonly #tracks = new Set<FakeTrack>();

  constructor(tracks: readonly FakeTrack[] = []) {
    for (const track of tracks) this.#tracks.add(track);
  }

  addTrack(track: FakeTrack): void {
    this.#tracks.add(track);
  }

  removeTrack(track: FakeTrack): void {
    this.#tracks.delete(track);
  }

  getTracks(): FakeTrack[] {
    return [...this.#tracks];
  }

  getAudioTracks(): FakeTrack[] {
    return this.getTracks().filter(({ kind }) => kind === "audio");
  }

  getVideoTracks(): FakeTrack[] {
    return this.getTracks().filter(({ kind }) => kind === "video");
  }
}

/** A peer connection that is up a moment after its answer, and whose counters rise while its node lives. */
export class FakePeer {
  connectionState = "new";
  localDescription: { sdp: string } | null = null;
  onconnectionstatechange: (() => void) | null = null;
  readonly #transceivers: { kind: "audio" | "video"; currentDirection: string; sender: { track: unknown; replaceTrack(track: unknown): Promise<void> }; receiver: { track: FakeTrack; getSynchronizationSources(): { timestamp: number }[] } }[] = [];
  #session: FakeSession | undefined;
  #received = 0;

  constructor(private readonly cluster: FakeCluster) {
    cluster.peers.add(this);
  }

  addTransceiver(of: FakeTrack | "audio" | "video", { direction }: { direction: string }): unknown {
    const kind = typeof of === "string" ? of : of.kind;
    const sender = { track: typeof of === "string" ? null : of as unknown, async replaceTrack(track: unknown) { sender.track = track; } };
    const receiver = { track: new FakeTrack(kind), getSynchronizationSources: () => (this.#alive() ? [{ timestamp: this.#epochNow() }] : []) };
    const transceiver = { kind, currentDirection: direction, sender, receiver };
    this.#transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return this.#transceivers;
  }

  getReceivers() {
    return this.#transceivers.map(({ receiver }) => receiver);
  }

  async setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: "v=0" };
  }

  async setRemoteDescription({ sdp }: { sdp: string }): Promise<void> {
    this.#session = this.cluster.sessions.get(sdp);
    setTimeout(() => this.#up(), 4 * DELAY_MS);
  }

  #up(): void {
    if (this.connectionState === "closed" || !this.#alive()) return;
    this.connectionState = "connected";
    this.onconnectionstatechange?.();
    for (const { receiver } of this.#transceivers) receiver.track.onunmute?.();
  }

  #alive(): boolean {
    return this.#session !== undefined && this.cluster.sessions.has(this.#session.name);
  }

  #epochNow(): number {
    return performance.timeOrigin + performance.now();
  }

  async getStats(): Promise<Map<string, unknown>> {
    if (this.#alive()) this.#received += 100;
    const timestamp = this.#epochNow();
    return new Map([["T", { id: "T", type: "transport", timestamp, bytesReceived: this.#received }]]);
  }

  close(): void {
    this.connectionState = "closed";
    this.cluster.peers.delete(this);
  }
}

/** Plain WHIP (RFC 9725) and WHEP: one peer connection to one node, with no walk behind it. */

import { request } from "./problem";

/** A WHIP or WHEP session. */
export interface MediaSession {
  readonly peer: RTCPeerConnection;
  /** Ends it here and at the node. */
  close(): Promise<void>;
}

/** Where a session is set up: the node's base address, the stream, and a user token. */
export interface Target {
  nodeUrl: string;
  room: string;
  stream: string;
  token: string;
}

/** The address of a stream at a node. */
export function endpoint(kind: "whip" | "whep", target: Target): string {
  const path = [kind, target.room, target.stream].map(encodeURIComponent).join("/");
  return `${target.nodeUrl.replace(/\/+$/, "")}/${path}`;
}

/** Publishes the tracks of a media stream. */
export function publish(target: Target, media: MediaStream): Promise<MediaSession> {
  return open(endpoint("whip", target), target.token, (peer) => {
    for (const track of media.getTracks()) peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
  });
}

/** Plays a stream; its tracks arrive as `track` events of the peer connection, and in `into`. */
export function play(target: Target, into: MediaStream): Promise<MediaSession> {
  return open(endpoint("whep", target), target.token, (peer) => {
    peer.ontrack = ({ track }) => into.addTrack(track);
    for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
  });
}

async function open(url: string, token: string, prepare: (peer: RTCPeerConnection) => void): Promise<MediaSession> {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  try {
    prepare(peer);
    // Candidates of ours are not waited for: the node is ICE-lite and answers whoever passes its checks.
    await peer.setLocalDescription();
    const response = await request(url, {
      method: "POST",
      headers: { "content-type": "application/sdp", authorization: `Bearer ${token}` },
      body: peer.localDescription?.sdp ?? "",
    });
    const location = response.headers.get("location");
    const resource = location === null ? null : new URL(location, url).href;
    await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    return { peer, close: () => end(peer, resource) };
  } catch (error) {
    peer.close();
    throw error;
  }
}

async function end(peer: RTCPeerConnection, resource: string | null): Promise<void> {
  peer.close();
  // A node that is gone cannot be told; it forgets the session by itself.
  if (resource !== null) await fetch(resource, { method: "DELETE", keepalive: true }).catch(() => undefined);
}

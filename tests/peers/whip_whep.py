"""Another WebRTC client: aiortc publishes by plain WHIP and plays by plain WHEP, each with a user token.

Usage: whip_whep.py PUBLISH_NODE_URL PLAY_NODE_URL ROOM STREAM USER_TOKEN
Prints one JSON object with what the player received; exits 1 with the reason when it did not get there.
"""

import asyncio
import fractions
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

LIMIT_SECONDS = 30
WANTED_FRAMES = 30
WANTED_AUDIO = 50


def post(url: str, token: str, sdp: str) -> tuple[str, str]:
    """Sends an offer; answers with the SDP answer and the session's address."""
    request = urllib.request.Request(url, data=sdp.encode(), method="POST")
    request.add_header("content-type", "application/sdp")
    request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=5) as response:
        location = urllib.parse.urljoin(url, response.headers["location"])
        return response.read().decode(), location


def delete(url: str, token: str) -> int:
    """Ends a session."""
    request = urllib.request.Request(url, method="DELETE", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.status


async def connect(peer: RTCPeerConnection, url: str, token: str) -> str:
    """Offer and answer; answers with the session's address. A node that says when to come again is asked again: its
    coordinator, which checks the token, or the stream is not there yet."""
    await peer.setLocalDescription(await peer.createOffer())
    while True:
        try:
            sdp, location = await asyncio.to_thread(post, url, token, peer.localDescription.sdp)
            break
        except urllib.error.HTTPError as error:
            if error.code not in (409, 503) or error.headers.get("retry-after") is None:
                raise SystemExit(f"{url}: {error.code} {error.read().decode()}") from error
            await asyncio.sleep(float(error.headers["retry-after"]))
    await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    return location


async def main() -> None:
    publish_node, play_node, room, stream, token = sys.argv[1:6]
    configuration = RTCConfiguration(iceServers=[])
    publisher, player = RTCPeerConnection(configuration), RTCPeerConnection(configuration)
    counts = {"audio": 0, "video": 0}
    done = asyncio.Event()

    async def count(track) -> None:
        last = fractions.Fraction(-1)
        while True:
            frame = await track.recv()
            time = frame.pts * frame.time_base
            assert time > last, f"{track.kind} went back in time: {time} after {last}"
            last = time
            counts[track.kind] += 1
            if counts["video"] >= WANTED_FRAMES and counts["audio"] >= WANTED_AUDIO:
                done.set()

    tasks = []
    player.on("track", lambda track: tasks.append(asyncio.ensure_future(count(track))))
    try:
        publisher.addTrack(AudioStreamTrack())
        publisher.addTrack(VideoStreamTrack())
        published = await connect(publisher, f"{publish_node}/whip/{room}/{stream}", token)
        for kind in ("audio", "video"):
            player.addTransceiver(kind, direction="recvonly")
        played = await connect(player, f"{play_node}/whep/{room}/{stream}", token)
        waiting = asyncio.ensure_future(done.wait())
        finished, _ = await asyncio.wait([waiting, *tasks], timeout=LIMIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            task.result()
        if not done.is_set():
            raise SystemExit(f"after {LIMIT_SECONDS} s only {counts}; publisher {publisher.connectionState}, player {player.connectionState}")
        print(json.dumps({**counts, "deleted": [await asyncio.to_thread(delete, url, token) for url in (played, published)]}))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(publisher.close(), player.close())


asyncio.run(asyncio.wait_for(main(), LIMIT_SECONDS + 30))

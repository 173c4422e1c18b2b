/** Cameras, microphones and screens, through what browsers offer. */

/** What is plugged in. Names are empty until the person has allowed one use. */
export interface Devices {
  cameras: MediaDeviceInfo[];
  microphones: MediaDeviceInfo[];
  speakers: MediaDeviceInfo[];
}

/** The devices that are there now. */
export async function devices(): Promise<Devices> {
  const all = await navigator.mediaDevices.enumerateDevices();
  const of = (kind: MediaDeviceKind) => all.filter((device) => device.kind === kind);
  return { cameras: of("videoinput"), microphones: of("audioinput"), speakers: of("audiooutput") };
}

/** Calls `changed` when a device was plugged in or out. The returned function ends that. */
export function watchDevices(changed: (devices: Devices) => void): () => void {
  const look = () => void devices().then(changed);
  navigator.mediaDevices.addEventListener("devicechange", look);
  return () => navigator.mediaDevices.removeEventListener("devicechange", look);
}

/**
 * Opens a camera and a microphone. `false` leaves one out; a device id picks one; constraints say more.
 *
 * To switch: open the other one, `publisher.replaceTrack(kind, track)`, and stop the old track.
 */
export function cameraAndMicrophone(
  wanted: { video?: boolean | string | MediaTrackConstraints; audio?: boolean | string | MediaTrackConstraints } = {},
): Promise<MediaStream> {
  const constraints = (want: boolean | string | MediaTrackConstraints = true) =>
    typeof want === "string" ? { deviceId: { exact: want } } : want;
  return navigator.mediaDevices.getUserMedia({ video: constraints(wanted.video), audio: constraints(wanted.audio) });
}

/** Asks the person for a screen, window or tab to share. `ended` is called when they stop it through the browser. */
export async function screen(ended: () => void, options: DisplayMediaStreamOptions = { video: true, audio: false }): Promise<MediaStream> {
  const media = await navigator.mediaDevices.getDisplayMedia(options);
  media.getVideoTracks()[0]?.addEventListener("ended", ended, { once: true });
  return media;
}

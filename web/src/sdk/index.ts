/** `@waystation/client`: rooms, publishing and playing that outlive nodes and coordinators. */

export type * from "./api";
export type { EventSource } from "./emitter";
export { cameraAndMicrophone, devices, type Devices, screen, watchDevices } from "./devices";
export { ERROR_TEXTS } from "./codes";
export { WaystationClient } from "./client";

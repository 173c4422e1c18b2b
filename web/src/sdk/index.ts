/** `@waystation/client`: rooms, publishing and playing that outlive nodes and coordinators. */

export type * from "./api";
export type { EventSource } from "./emitter";
export { cameraAndMicrophone, devices, type Devices, screen, watchDevices } from "./devices";
export { ErrorCode, errorCode, errorName, errorText } from "./machine/ids";
export { WaystationClient } from "./client";

import { defineConfig } from "vite";

// Relative addresses: the page is served at / by `waystation dev` and by coordinators, and may sit below a prefix.
export default defineConfig({ base: "./", build: { target: "es2022", sourcemap: true } });

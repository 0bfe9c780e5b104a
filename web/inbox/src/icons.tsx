// The page's pictograms: lines of one width, in the colour of the text around them, of no meaning to a screen reader.

const PATHS = {
  bell: "M18 16V11a6 6 0 1 0-12 0v5l-2 2.5h16L18 16ZM10 21h4",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  link: "M14 5h5v5M19 5l-8 8M17 14v4a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1V8a1 1 0 0 1 1-1h4",
  play: "M8 5.5v13l11-6.5z",
  file: "M13 3H7a1 1 0 0 0-1 1v16a1 1 0 0 0 1 1h10a1 1 0 0 0 1-1V8zM13 3v5h5",
  sound: "M5 10v4M9 7v10M13 4v16M17 8v8M21 11v2",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.5h.01",
  pin: "M12 21s7-6.1 7-11a7 7 0 1 0-14 0c0 4.9 7 11 7 11ZM12 12.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20a7.5 7.5 0 0 1 15 0",
  stack: "M4 7h16M4 12h16M4 17h10",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  gap: "M4 12h4M16 12h4M10 6l4 12",
  up: "M12 19V6M6 11l6-6 6 6",
  exit: "M10 5H6a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h4M15 8l4 4-4 4M19 12H10",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

/** One of them. */
export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

#pragma once
// A tile of 16 rows of 64 16-bit numbers lies in shared memory in pieces of 16 bytes, 8 a row. The
// tensor cores load 8 pieces at a time: one piece of 8 neighbouring rows. Shared memory has 8 banks
// of 16 bytes; piece place p lies in bank p % 8. Two pieces in one bank take two trips.

/// The place, 0 .. 127, of piece `piece` (0 .. 7) of row `row` (0 .. 15). As it stands, the same
/// piece of 8 rows always lies in one bank: 8 trips instead of 1. Move the pieces of a row about,
/// within the row, so that they lie in 8 different banks; no two pieces may share a place.
inline int piece_at(int row, int piece) {
  return 8 * row + piece;
}

#pragma once
// A solution of the exercise.

/// The place, 0 .. 127, of piece `piece` (0 .. 7) of row `row` (0 .. 15): the number of the row
/// turns its pieces about (a *swizzle*). An exclusive or with a constant maps 0 .. 7 onto itself.
inline int piece_at(int row, int piece) {
  return 8 * row + (piece ^ row % 8);
}

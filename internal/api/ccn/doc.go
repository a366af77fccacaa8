// Package ccn is the HTTP interface of a core channel node, as the clients of the
// Aleph network expect it: paths, answers, statuses and refusals are those of the
// reference. Section 5 of the protocol says what they are.
//
// Reads query internal/state; writes go through an intake. Lists that have many
// rows are written as they are read. What a client can ask for is bounded: see
// the constants beside each part. Where this interface answers otherwise than the
// reference, the reason is beside the code:
//
//   - a message that was handed in is judged at once, so that its answer says
//     what became of it;
//   - lists leave out V-PROGRAM messages unless the query names that type or the
//     hashes, since clients that do not know the type lose a whole page of others;
//   - an upload that is refused leaves nothing, also where the reference keeps an
//     orphan for a day;
//   - files are served in ranges, and may be brought in pieces: see resume.go;
//   - every filter of a list holds for those who listen live too, and a query that is
//     wrong closes their socket with a reason.
package ccn

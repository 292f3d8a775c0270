/* Copies the data of a sparse file to a new one, its holes left out: what copying costs at least. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1 << 20)

static char buffer[PIECE];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void copy_range(int from, int to, off_t at, off_t end) {
  while (at < end) {
    size_t wanted = end - at < PIECE ? (size_t)(end - at) : PIECE;
    ssize_t got = pread(from, buffer, wanted, at);
    if (got <= 0) fail("pread");
    for (ssize_t done = 0; done < got;) {
      ssize_t written = pwrite(to, buffer + done, (size_t)(got - done), at + done);
      if (written <= 0) fail("pwrite");
      done += written;
    }
    at += got;
  }
}

int main(int count, char **arguments) {
  struct stat status;
  if (count != 3) {
    fprintf(stderr, "usage: copy-ranges FROM TO\n");
    return 2;
  }
  int from = open(arguments[1], O_RDONLY);
  int to = open(arguments[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (from < 0 || to < 0 || fstat(from, &status) != 0) fail("open");
  if (ftruncate(to, status.st_size) != 0) fail("ftruncate");
  for (off_t end = 0;;) {
    off_t at = lseek(from, end, SEEK_DATA);
    if (at < 0 && errno == ENXIO) break;
    if (at < 0 || (end = lseek(from, at, SEEK_HOLE)) < 0) fail("lseek");
    copy_range(from, to, at, end);
  }
  if (close(to) != 0) fail("close");
  return 0;
}

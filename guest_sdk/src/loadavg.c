/* <stdlib.h> getloadavg. */
#include <stdio.h>
#include <stdlib.h>

int getloadavg(double averages[], int count) {
  double found[3];
  FILE *file = fopen("/proc/loadavg", "re");
  if (!file) return -1;
  int got = fscanf(file, "%lf %lf %lf", &found[0], &found[1], &found[2]);
  fclose(file);
  if (got != 3) return -1;
  if (count > 3) count = 3;
  for (int i = 0; i < count; i++) averages[i] = found[i];
  return count;
}

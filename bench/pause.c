/* pause.c - a program that only waits, for crowds of them: linked statically */
#include <unistd.h>

int main(void)
{
    pause();
    return 0;
}

/* true.c - the shortest program with a C library; linked statically */
int main(void)
{
    return 0;
}

/* empty: a static program of the C library that does nothing; its fork and exec is what any static program pays. */
int main(void)
{
	return 0;
}

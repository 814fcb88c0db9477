/* empty: a static program with a C library that does nothing: the cost of fork and exec of any such program. */
int main(void)
{
	return 0;
}

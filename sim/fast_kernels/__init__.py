"""What the fast engine is made of.

order.py          how the neurons of a population lie in memory
compiled.py       numba, where it is installed
event_sums.py     event-driven synapses (numba)       gemm_sums.py    dense synapses (torch)
synapse.py        one synapse: its weights as each kernel wants them
choice.py         which kernel runs
neuron_rows.py    fused neuron update (numba)         populations.py  state of a population, compiled or in torch
walk.py           a block of samples through the graph
recording.py      what is kept for the trace
"""
